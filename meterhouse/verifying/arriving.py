"""Checks of what arrives: samples, an event, a statistic, the verdict on a bad point, a resource."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from meterhouse import times
from meterhouse.errors import MeterhouseError
from meterhouse.settings import Settings
from meterhouse.stream import Backlog
from meterhouse.verification import VERIFY, VERIFY_EVENT, VERIFY_METER
from meterhouse.verifying.asking import Api, q
from meterhouse.verifying.findings import Failed
from meterhouse.verifying.sent import BAD, GOOD, POLLED_METER, Sent

_COLLECTED: Final = (
    "The stream is empty, so it was collected: look at `meterhouse dead-letters list` and at the conversion in "
    "`meterhouse doctor`, and check that the API and the collector use the same lake and warehouse"
)


@dataclass
class Arriving:
    """What was sent, on its way through the site.

    Args:
        api: where it is asked for.
        sent: what was sent.
        settings: of the stream.

    Attributes:
        seconds: how long it took until the samples could be queried.
    """

    api: Api
    sent: Sent
    settings: Settings
    seconds: float = field(default=0.0, init=False)
    _since: float = field(default_factory=time.monotonic, init=False)

    def samples(self) -> str:
        """Whether the polled samples can be queried, each by its id too."""
        points = self.sent.points

        def all_there() -> list[dict[str, Any]] | None:
            found = self._of_run(POLLED_METER)
            return found if len(found) >= len(points) else None

        found = self._wait(all_there, "the polled samples")
        self.seconds = time.monotonic() - self._since
        volumes = sorted(each["counter_volume"] for each in found)
        if volumes != sorted(volume for _, volume in points):
            raise Failed(f"the samples have the volumes {volumes}", "Run `meterhouse samples` on the site")
        one = found[0]["message_id"]
        if self.api.ask(f"/v2/samples/{one}") is None:
            raise Failed(f"the sample {one} is in a list, but not found by its id")
        return f"{len(found)} polled samples could be queried {self.seconds:.1f} s after they were sent"

    def notified(self) -> str:
        """Whether the notification has yielded its sample."""

        def there() -> list[dict[str, Any]] | None:
            return self._of_run(VERIFY_METER, self.sent.notified_resource) or None

        (found, *_) = self._wait(there, "the sample of the notification")
        if found["source"] != VERIFY:
            raise Failed(f"the sample of the notification has the source {found['source']}, not {VERIFY}")
        return f"the notification has yielded a sample of {VERIFY_METER}"

    def event(self) -> str:
        """Whether the notification has yielded its event."""
        found = self._wait(lambda: self.api.ask(f"/v2/events/{self.sent.message_id}"), "the event")
        if found["event_type"] != VERIFY_EVENT:
            raise Failed(f"the event is of the type {found['event_type']}, not {VERIFY_EVENT}")
        return f"the notification has yielded an event with {len(found['traits'])} traits"

    def statistic(self) -> str:
        """Whether the statistic is that of the good points."""
        first, last = self._span()
        params = q(*self._mine(), ("timestamp", "ge", first), ("timestamp", "le", last))
        count, total = len(GOOD), sum(GOOD)
        wanted = {"count": count, "min": min(GOOD), "max": max(GOOD), "sum": total, "avg": total / count}
        seen: list[dict[str, Any]] = []

        def right() -> bool | None:
            rows = self.api.ask(f"/v2/meters/{POLLED_METER}/statistics", params) or []
            seen[:] = [{name: row.get(name) for name in wanted} for row in rows]
            return seen == [wanted] or None

        if self.api.until(right) is None:
            raise Failed(
                f"the statistic of the samples is {seen or 'empty'}, not {wanted}",
                "Look at the verdicts of the points: `meterhouse samples`",
            )
        return f"{count} points with the average {total / count:g}: the bad one is left out"

    def quality(self) -> str:
        """Whether the bad point is flagged, and only that."""
        reasons = {each["counter_volume"]: each.get("reasons") or [] for each in self._of_run(POLLED_METER)}
        flagged = sorted(volume for volume, some in reasons.items() if some)
        if flagged != [BAD]:
            raise Failed(
                f"of the points {sorted(reasons)}, those are flagged: {flagged or 'none'}",
                "Check quality.yaml, and `meterhouse doctor` (quality rules)",
            )
        return f"the bad point is flagged: {', '.join(reasons[BAD])}"

    def resource(self) -> str:
        """Whether the resource is known as its newest good point shows it: the roll-up writes that.

        The newest point is the bad one, which counts until then.
        """
        last = max(moment for moment, volume in self.sent.points if volume != BAD)
        seen: list[str | None] = []

        def rolled() -> dict[str, Any] | None:
            found = self.api.ask(f"/v2/resources/{self.sent.place}")
            if found is None:
                return None
            seen.append(found.get("last_sample_timestamp"))
            return found if seen[-1] and times.parse(seen[-1]) == last else None

        found = self.api.until(rolled)
        if found is None:
            if not seen:
                raise Failed("there is no resource of the samples, which are there", "Run `meterhouse doctor`")
            raise Failed(
                "the resource is known, but not its newest good point: nothing has rolled it up",
                "Run `meterhouse rollup`, or Dagster's sensors, and look at the dirty hours in `meterhouse doctor`",
            )
        if found.get("metadata", {}).get("run") != self.sent.run:
            raise Failed(f"the resource has the metadata {found.get('metadata')}, not those of its newest points")
        return "the resource is what its newest points say: the roll-up is running"

    def lag(self) -> str:
        """How far the site is behind."""
        try:
            waiting = _backlog(self.settings)
        except MeterhouseError as error:
            raise Failed(f"nobody knows what waits in the stream: {error}", "Check --stream") from None
        if waiting and waiting.oldest is not None:
            oldest = (times.now() - waiting.oldest).total_seconds()
            if oldest > self.api.seconds:
                raise Failed(
                    f"{waiting.messages} wait in the stream, the oldest for {oldest:.0f} s",
                    "Look at the intake in `meterhouse doctor`: it is behind",
                )
        return f"samples can be queried after {self.seconds:.1f} s; {waiting.messages} wait in the stream"

    def _wait(self, wanted: Callable[[], Any], what: str) -> Any:
        found = self.api.until(wanted)
        if found is None:
            raise Failed(f"{what} did not come within {self.api.seconds:g} s", self._where_stuck())
        return found

    def _where_stuck(self) -> str:
        try:
            waiting = _backlog(self.settings)
        except MeterhouseError as error:
            return f"The stream does not say what waits: {error}"
        if not waiting:
            return _COLLECTED
        places = ", ".join(f"{place.messages} wait in {place.place}" for place in waiting.places if place.messages)
        return (
            f"{places}: nothing collects them, or it is behind. Run `meterhouse collect --follow`, or Dagster's sensors"
        )

    def _of_run(self, meter: str, resource: str = "") -> list[dict[str, Any]]:
        first, last = self._span()
        conditions = [*self._mine(resource), ("timestamp", "ge", first), ("timestamp", "le", last)]
        found = self.api.ask(f"/v2/meters/{meter}", [*q(*conditions), ("limit", "100")]) or []
        return [each for each in found if each["resource_metadata"].get("run") == self.sent.run]

    def _mine(self, resource: str = "") -> list[tuple[str, str, str]]:
        return [("resource_id", "eq", resource or self.sent.place), ("source", "eq", VERIFY)]

    def _span(self) -> tuple[str, str]:
        """From the first point until the notification."""
        return _plain(self.sent.points[0][0]), _plain(self.sent.began)


def _backlog(settings: Settings) -> Backlog:
    """What waits in the stream."""
    if settings.is_spool:
        from meterhouse.stream.spool import Spool

        return Spool(settings.spool).backlog()
    from meterhouse.stream.amqp import AmqpStream

    if settings.stream_queue_type == "stream":  # how far it is read, only the lake says
        return Backlog(())
    return AmqpStream.from_settings(settings, lambda name: None).backlog()


def _plain(moment: datetime) -> str:
    return moment.replace(tzinfo=None).isoformat()
