"""Runs alarms over the past: at each cycle, over the raw points as they were known then.

A point counts from the cycle on at whose time it had arrived (`recorded_at`), a correction from when it was recorded.
So it decides what a live evaluation decided at these times, by the quality rules of today.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from meterhouse.alarms.definitions.alarm import UNKNOWN, Alarm
from meterhouse.alarms.definitions.rules.combination import CombinationRule
from meterhouse.alarms.definitions.rules.event import EventRule
from meterhouse.alarms.definitions.time_constraints import in_force
from meterhouse.alarms.evaluation.by_type import DECIDE
from meterhouse.alarms.evaluation.by_type.combination import in_order
from meterhouse.alarms.evaluation.by_type.deciding import Moment, decide, deviations, pasts
from meterhouse.alarms.evaluation.given import Cycle, Given
from meterhouse.alarms.evaluation.requests import requests_of
from meterhouse.alarms.evaluation.windows import Window, windows_at
from meterhouse.errors import UsageError
from meterhouse.site import Site

MAX_CYCLES: Final = 200_000
"""Maximum number of cycles of a replay: four months of minutes."""


@dataclass(frozen=True)
class Change:
    """A change of an alarm's state, or the repetition of its actions.

    Attributes:
        at: the time of the cycle, UTC.
        previous: the state before.
        state: the state from now on.
        reason: why, for people.
        reason_data: why, for programs.
        values: what decided, oldest first.
    """

    at: datetime
    previous: str
    state: str
    reason: str
    reason_data: Mapping[str, Any]
    values: tuple[float, ...]


@dataclass
class Replayed:
    """What an alarm would have done.

    Attributes:
        alarm: the alarm.
        start: the first cycle, UTC.
        end: the end of the span, exclusive, UTC.
        every: seconds between two cycles.
        changes: of its state, in order.
        recent: by cycle, the latest value that it looked at; None without one.
        notifications: how often actions would have been due.
    """

    alarm: Alarm
    start: datetime
    end: datetime
    every: int
    changes: list[Change] = field(default_factory=list)
    recent: list[float | None] = field(default_factory=list)
    notifications: int = 0

    @property
    def state(self) -> str:
        """Its state by now."""
        return self.changes[-1].state if self.changes else UNKNOWN

    def spans(self) -> list[tuple[datetime, datetime, str, Change | None]]:
        """The spans of its states: from, to, the state, and the change that began it."""
        found: list[tuple[datetime, datetime, str, Change | None]] = []
        begins, state, by = self.start, UNKNOWN, None
        for change in self.changes:
            if change.at > begins:
                found.append((begins, change.at, state, by))
            begins, state, by = change.at, change.state, change
        found.append((begins, self.end, state, by))
        return found

    def seconds(self, state: str) -> float:
        """How long it would have been in a state."""
        return sum((end - start).total_seconds() for start, end, each, _ in self.spans() if each == state)


def cycles(start: datetime, end: datetime, every: int) -> list[datetime]:
    """The times of the cycles of a span.

    Raises:
        UsageError: there are too many.
    """
    count = -(-(end - start) // timedelta(seconds=every))
    if count > MAX_CYCLES:
        raise UsageError(
            f"the span has {count:,} cycles of {every} s", hint=f"At most {MAX_CYCLES:,}: shorten it, or raise --every"
        )
    return [start + timedelta(seconds=every * n) for n in range(count)]


Windows = Callable[[Site, Mapping[str, Alarm], Sequence[datetime]], Iterator[dict[str, Sequence[Window]]]]
"""What gives the windows of alarms by id, for each of some moments."""


def hindsight(site: Site, alarms: Mapping[str, Alarm], moments: Sequence[datetime], every: int) -> dict[str, Replayed]:
    """As `replay`, over all points that have come by now: also those that were loaded long after their time."""
    return run(site, alarms, moments, every, _hindsight, known=False)


def replay(site: Site, alarms: Mapping[str, Alarm], moments: Sequence[datetime], every: int) -> dict[str, Replayed]:
    """Run alarms, by id, over some cycles. Each begins in insufficient data.

    Args:
        site: the site.
        alarms: the alarms by id, and all those that they combine.
        moments: the times of the cycles, in order, UTC.
        every: seconds between two cycles.

    Raises:
        UsageError: an alarm is of a type that has no cycles.
    """
    return run(site, alarms, moments, every, _windows)


def run(
    site: Site,
    alarms: Mapping[str, Alarm],
    moments: Sequence[datetime],
    every: int,
    windows: Windows,
    *,
    known: bool = True,
) -> dict[str, Replayed]:
    """As `replay`, with windows from elsewhere.

    Args:
        site: the site.
        alarms: the alarms by id, and all those that they combine.
        moments: the times of the cycles, in order, UTC.
        every: seconds between two cycles.
        windows: what gives the windows.
        known: whether only what was known at each cycle counts for what is not in the windows.

    Raises:
        UsageError: an alarm is of a type that has no cycles.
    """
    for alarm in alarms.values():
        if isinstance(alarm.rule, EventRule):
            raise UsageError(
                f"alarm '{alarm.name}' waits for events, and has no cycles",
                hint=f"`meterhouse events --where …` lists those of the type {alarm.rule.event_type}",
            )
    combined = {key: alarm.rule for key, alarm in alarms.items() if isinstance(alarm.rule, CombinationRule)}
    order = [*(key for key in alarms if key not in combined), *in_order(combined)]
    end = moments[-1] + timedelta(seconds=every)
    made = {key: Replayed(alarm, moments[0], end, every) for key, alarm in alarms.items()}
    states = dict.fromkeys(alarms, UNKNOWN)
    given = {key: alarm for key, alarm in alarms.items() if key not in combined}
    icehouse = site.settings.alarm_quorum == "icehouse"
    past = pasts(site, deviations(given.values()), moments, moments if known else [None] * len(moments))
    for at, found, before in zip(moments, windows(site, given, moments), past, strict=True):
        moment = Moment(at, states, before, icehouse)
        cycle = Cycle(site, at, states, known_at=at if known else None)
        for key in order:
            _step(made[key], Given(key, made[key].alarm, "", states[key], tuple(found.get(key, ()))), cycle, moment)
            states[key] = made[key].state
    return made


def _step(of: Replayed, given: Given, cycle: Cycle, moment: Moment) -> None:
    values = given.windows[0].values if given.windows else ()
    of.recent.append(values[-1] if values else None)
    if not of.alarm.enabled or not in_force(of.alarm.time_constraints, moment.at):
        return
    by_type = DECIDE.get(of.alarm.type)
    outcome = by_type(cycle, given, moment) if by_type else decide(of.alarm, given.state, given.windows, moment)
    if outcome is None or not outcome.notify:
        return
    of.notifications += bool(of.alarm.actions(outcome.state))
    if outcome.state != given.state:
        change = Change(moment.at, given.state, outcome.state, outcome.reason, outcome.reason_data, values)
        of.changes.append(change)


def _windows(
    site: Site, alarms: Mapping[str, Alarm], moments: Sequence[datetime]
) -> Iterator[dict[str, Sequence[Window]]]:
    """For each cycle, the windows of alarms by id, over what was known at its time."""
    yield from _windows_of(site, alarms, moments, moments)


def _hindsight(
    site: Site, alarms: Mapping[str, Alarm], moments: Sequence[datetime]
) -> Iterator[dict[str, Sequence[Window]]]:
    """As `_windows`, over all that has come by now."""
    yield from _windows_of(site, alarms, moments, [None] * len(moments))


def _windows_of(
    site: Site, alarms: Mapping[str, Alarm], moments: Sequence[datetime], known: Sequence[datetime | None]
) -> Iterator[dict[str, Sequence[Window]]]:
    wanted = {key: alarm.wanted() for key, alarm in alarms.items()}
    requests = requests_of([each for of in wanted.values() for each in of])
    for found in windows_at(site, requests, moments, known):
        numbers = iter(range(len(found)))
        yield {key: [found.of(next(numbers)) for _ in of] for key, of in wanted.items()}
