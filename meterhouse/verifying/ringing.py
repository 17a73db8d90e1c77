"""Checks of an alarm of the suite's own: it fires at its receiver, recovers, and is deleted."""

import socket
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

from meterhouse import times
from meterhouse.demo.receiver import WebhookReceiver
from meterhouse.verification import VERIFY
from meterhouse.verifying.asking import Api, content_of, q, text_of
from meterhouse.verifying.findings import Failed
from meterhouse.verifying.sent import LEVEL_METER, Sent

THRESHOLD: Final = 50.0
HIGH, LOW = 100.0, 1.0

PERIOD_SECONDS: Final = 60

FORGOTTEN: Final = timedelta(hours=1)
"""An alarm of a run that was killed is deleted by a run that begins so much later."""


@dataclass
class Ringing:
    """An alarm that watches the smallest level of the last minute.

    Args:
        api: where it is created.
        sent: measures the level.
        receiver: gets its webhooks.
    """

    api: Api
    sent: Sent
    receiver: WebhookReceiver
    alarm_id: str = field(default="", init=False)
    _deleted: bool = field(default=False, init=False)

    def created(self) -> str:
        """Whether an alarm can be created."""
        self._forget_others()
        rule = {
            "meter_name": LEVEL_METER,
            "query": [
                {"field": "resource_id", "op": "eq", "value": self.sent.place},
                {"field": "source", "op": "eq", "value": VERIFY},
            ],
            "statistic": "min",
            "comparison_operator": "gt",
            "threshold": THRESHOLD,
            "period": PERIOD_SECONDS,
            "evaluation_periods": 1,
        }
        self.sent.measure(HIGH)
        answer = self.api.send(
            "POST",
            "/v2/alarms",
            json={
                "name": self._name,
                "description": "Of a run of `meterhouse verify`, which deletes it",
                "type": "threshold",
                "threshold_rule": rule,
                "severity": "low",
                "alarm_actions": [self.receiver.url],
                "ok_actions": [self.receiver.url],
                "repeat_actions": False,
            },
        )
        if answer.status_code != 201:
            text = text_of(answer)
            hint = "Check what the caller may do"
            if answer.status_code == 400:
                hint = (
                    "The site must be allowed to reach the receiver: give its address by --receiver-host, and set "
                    "METERHOUSE_WEBHOOK_ALLOW on the site if it is a private or a loopback one"
                )
            raise Failed(f"the alarm was not created: {answer.status_code}: {text}", hint)
        self.alarm_id = str(content_of(answer, "POST /v2/alarms")["alarm_id"])
        return f"created, with the receiver {self.receiver.url}"

    def fires(self) -> str:
        """Whether it fires when the level is high."""
        self._wait("alarm", HIGH)
        return "the level was high, and its webhook has come"

    def recovers(self) -> str:
        """Whether it recovers when the level is low."""
        self._wait("ok", LOW)
        return "the level was low, and its webhook has come"

    def deleted(self) -> str:
        """Delete it."""
        answer = self.api.send("DELETE", f"/v2/alarms/{self.alarm_id}")
        self._deleted = True
        if answer.status_code != 204:
            raise Failed(
                f"the alarm {self.alarm_id} was not deleted: {answer.status_code}: {text_of(answer)}",
                f"Delete it: `meterhouse alarms delete {self.alarm_id}`",
            )
        if self.api.ask(f"/v2/alarms/{self.alarm_id}") is not None:
            raise Failed(f"the alarm {self.alarm_id} was deleted, and is there")
        return "the alarm is deleted"

    @property
    def is_left(self) -> bool:
        """Whether there is an alarm that has to be deleted."""
        return bool(self.alarm_id) and not self._deleted

    @property
    def _name(self) -> str:
        return f"{VERIFY}.{socket.gethostname()}"

    def _forget_others(self) -> None:
        """Delete alarms of runs that were killed."""
        for each in self.api.ask("/v2/alarms", q(("name", "eq", self._name))) or []:
            if times.parse(each["timestamp"]) < times.now() - FORGOTTEN:
                self.api.send("DELETE", f"/v2/alarms/{each['alarm_id']}")

    def _wait(self, state: str, level: float) -> None:
        """Wait for the webhook of a state, with the level measured meanwhile."""

        def come() -> Any:
            bodies = [call.body for call in self.receiver.calls if isinstance(call.body, dict)]
            mine = [body for body in bodies if body.get("alarm_id") == self.alarm_id]
            return next((body for body in mine if body.get("current") == state), None)

        if self.api.until(come, lambda: self.sent.measure(level)) is None:
            raise Failed(f"no webhook of the state {state} has come within {self.api.seconds:g} s", self._why(state))

    def _why(self, wanted: str) -> str:
        alarm = self.api.ask(f"/v2/alarms/{self.alarm_id}") or {}
        state, reason = alarm.get("state"), alarm.get("state_reason") or ""
        if state == wanted:
            return (
                f"The alarm is in the state {state}, so its webhook was not delivered: look at `meterhouse alarms "
                "deliveries`. Either nothing delivers (run `meterhouse alarms deliver`, or Dagster's sensors), or the "
                "site does not reach the receiver (--receiver-host), or must not (METERHOUSE_WEBHOOK_ALLOW)"
            )
        return (
            f"The alarm is in the state {state}{f' ({reason})' if reason else ''}: nothing has evaluated it since. "
            "Run `meterhouse alarms evaluate` each minute, or Dagster's sensors, and look at the evaluations in "
            "`meterhouse doctor`"
        )
