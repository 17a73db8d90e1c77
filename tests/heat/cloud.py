"""A simulated load on the members of a real stack: samples of each come by RabbitMQ, and alarms are evaluated."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from itertools import pairwise
from typing import Any

from brokers import publish
from builders import enveloped, line, polled, polling, warehouse_rows
from stacks import END_SECONDS, Stack

from meterhouse import times
from meterhouse.alarms.delivery.deliver import deliver
from meterhouse.alarms.evaluation.evaluate import evaluate
from meterhouse.site import Site

CYCLE = 4.0
"""Seconds from one evaluation to the next."""

COLUMNS = ("samples", "alarm", "delivery", "stack")
"""Where things happen, in the order in which they follow from each other."""

TOLD = ("UPDATE_IN_PROGRESS", "CREATE_COMPLETE", "DELETE_COMPLETE", "UPDATE_COMPLETE", "SIGNAL_COMPLETE")
"""The events of a stack that are shown, in the order in which a change of the group has them."""


@dataclass(order=True)
class Happened:
    """One thing that happened. Heat tells the time to the second, so all are put in order by that."""

    second: datetime
    column: int
    place: int
    text: str


@dataclass
class Cloud:
    """A stack, the load on its members, and a site that watches them.

    Attributes:
        site: the site.
        stack: the stack.
        amqp_url: the broker.
        exchange: where the samples are published.
        load: percent of one processor, shared by the members.
    """

    site: Site
    stack: Stack
    amqp_url: str
    exchange: str
    load: float = 0.0
    _samples: list[tuple[datetime, str]] = field(default_factory=list)
    _evaluated: float = 0.0

    def run_until(self, reached: Callable[[], bool], *, at_least: float = 0.0) -> None:
        """Publish samples each second and evaluate each CYCLE, until a state is reached and some seconds are over."""
        begun = time.monotonic()
        while time.monotonic() < begun + at_least or not reached():
            assert time.monotonic() < begun + END_SECONDS, self.table()
            tick = time.monotonic()
            self._publish()
            if tick - self._evaluated >= CYCLE:
                self._evaluated = tick
                assert evaluate(self.site).faults == []
                deliver(self.site)
            time.sleep(max(0.0, tick + 1 - time.monotonic()))

    def _publish(self) -> None:
        """One sample of each member, as a polling agent publishes them; and of another instance of the project."""
        moment, members = times.now(), self.stack.members
        each = min(100.0, self.load / len(members))
        busy = [*((member, each, self.stack.stack_id) for member in members), ("other", 50.0, "another-stack")]
        samples = [
            polled(
                volume,
                moment,
                resource=resource,
                project=self.stack.project,
                resource_metadata={"display_name": resource, "user_metadata": {"server_group": group}},
            )
            for resource, volume, group in busy
        ]
        batch = polling(f"batch-{moment.timestamp()}", samples)
        publish(self.amqp_url, self.exchange, "notifications.sample", [line(enveloped(batch))])
        self._samples.append((moment, f"{len(members)} member{'s' * (len(members) > 1)} at {each:g} %"))

    def transitions(self, name: str) -> list[str]:
        """The states that an alarm went to, in order."""
        return [state for _, alarm, state in self._transitions() if alarm == name]

    def _transitions(self) -> list[tuple[datetime, str, str]]:
        query = (
            "SELECT h.timestamp, a.name, h.detail FROM alarm_history h JOIN alarms a USING (alarm_id) "
            "WHERE h.type = 'state transition' ORDER BY h.sequence"
        )
        return [(when, name, json.loads(detail)["state"]) for when, name, detail in warehouse_rows(self.site, query)]

    def ledger(self) -> list[dict[str, Any]]:
        """The attempts of the ledger, in order, with the body as an object."""
        query = (
            "SELECT d.state, d.attempts, d.body, d.url, a.started_at, a.status FROM deliveries d "
            "LEFT JOIN delivery_attempts a USING (delivery_id) ORDER BY d.sequence, a.attempt"
        )
        names = ("state", "attempts", "body", "url", "started_at", "status")
        rows = warehouse_rows(self.site, query)
        return [{**dict(zip(names, row, strict=True)), "body": json.loads(row[2])} for row in rows]

    def table(self) -> str:
        """Samples where they change, transitions, deliveries and events of the stack, in order: a table of Markdown."""
        changes = [*self._samples[:1], *(new for old, new in pairwise(self._samples) if new[1] != old[1])]
        found: list[tuple[datetime, int, str]] = [
            *((when, 0, text) for when, text in changes),
            *((when, 1, f"{name}: {state}") for when, name, state in self._transitions()),
            *((each["started_at"], 2, f"{each['body']['alarm_name']}: {each['status']}") for each in self.ledger()),
            *((each.time, 3, f"{each.part}: {each.status}") for each in self.stack.events if each.status in TOLD),
        ]
        begun = self._samples[0][0].replace(microsecond=0)
        rows = sorted(
            Happened(when.replace(microsecond=0), column, _place(text), text)
            for when, column, text in found
            if when is not None and when >= begun
        )
        lines = [f"| second | {' | '.join(COLUMNS)} |", "|---" * (len(COLUMNS) + 1) + "|"]
        for row in rows:
            cells = [row.text if column == row.column else "" for column in range(len(COLUMNS))]
            lines.append(f"| {(row.second - begun).seconds} | {' | '.join(cells)} |")
        return "\n".join(lines)


def _place(text: str) -> int:
    """The place of an event of a stack among those of the same second."""
    return next((place for place, status in enumerate(TOLD) if text.endswith(status)), 0)
