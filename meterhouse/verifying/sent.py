"""What the suite sends: a notification, polled samples with a bad one among them, a level that an alarm watches."""

import socket
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

from meterhouse import times
from meterhouse.conversion import signatures
from meterhouse.stream.publishing import Publisher, enveloped
from meterhouse.verification import VERIFY, VERIFY_EVENT
from meterhouse.verifying.access import Who

POLLED_METER: Final = "meterhouse.verify.polled"
LEVEL_METER: Final = "meterhouse.verify.level"

GOOD: Final = (1.0, 2.0, 3.0)
BAD: Final = 1e200
"""Beyond what every site excludes, whatever its quality rules are."""

LEVEL_SECONDS: Final = 5.0
"""How often the level is measured."""

_SLOTS: Final = 60


@dataclass
class Sent:
    """What one run of the suite sends.

    Resources have the names of the machine and of a minute of the hour, so that runs do not see each other's points,
    and that there are not more and more of them.

    Args:
        publisher: puts messages into the stream.
        who: whose samples they are.
        secret: METERHOUSE_TELEMETRY_SECRET, by which samples are signed; empty for none.
    """

    publisher: Publisher
    who: Who
    secret: str
    run: str = field(default_factory=lambda: uuid.uuid4().hex)
    began: datetime = field(default_factory=times.now)
    _level: float = field(default=0.0, init=False)
    _measured: float = field(default=float("-inf"), init=False)

    @property
    def place(self) -> str:
        """The name of machine and slot, which all resources have."""
        return f"{VERIFY}.{socket.gethostname()}.{int(self.began.timestamp()) // 60 % _SLOTS}"

    @property
    def message_id(self) -> str:
        """Of the notification."""
        return f"{VERIFY}-{self.run}"

    @property
    def notified_resource(self) -> str:
        """The resource of the notification's sample."""
        return f"{self.place}.notified"

    @property
    def points(self) -> list[tuple[datetime, float]]:
        """The polled points, the bad one at the end; a second lies between two."""
        first = self.began.replace(microsecond=0) - timedelta(seconds=len(GOOD) + 2)
        return [(first + timedelta(seconds=n), volume) for n, volume in enumerate((*GOOD, BAD))]

    def notification(self) -> bytes:
        """The notification: yields an event and a sample."""
        return enveloped(
            {
                "message_id": self.message_id,
                "publisher_id": f"{VERIFY}.{socket.gethostname()}",
                "event_type": VERIFY_EVENT,
                "priority": "INFO",
                "timestamp": _text(self.began),
                "payload": {
                    "volume": 1.0,
                    "resource_id": self.notified_resource,
                    "tenant_id": self.who.project_id,
                    "user_id": self.who.user_id,
                    "run": self.run,
                },
            }
        )

    def polled(self) -> bytes:
        """The polled samples."""
        return self._batch("polled", [self._sample(POLLED_METER, moment, volume) for moment, volume in self.points])

    def send(self) -> None:
        """Send the notification and the polled samples.

        Raises:
            MeterhouseError: the stream cannot be reached.
        """
        self.publisher.publish([self.notification(), self.polled()])

    def measure(self, level: float) -> None:
        """Measure the level, if it is new or was measured some seconds ago.

        Raises:
            MeterhouseError: the stream cannot be reached.
        """
        if level == self._level and time.monotonic() - self._measured < LEVEL_SECONDS:
            return
        now = times.now()
        self.publisher.publish([self._batch(f"level-{now.timestamp()}", [self._sample(LEVEL_METER, now, level)])])
        self._level, self._measured = level, time.monotonic()

    def _batch(self, name: str, samples: Sequence[Mapping[str, Any]]) -> bytes:
        return enveloped(
            {
                "message_id": f"{self.message_id}-{name}",
                "publisher_id": f"{VERIFY}.{socket.gethostname()}",
                "event_type": "telemetry.polling",
                "priority": "SAMPLE",
                "timestamp": _text(times.now()),
                "payload": {"samples": list(samples)},
            }
        )

    def _sample(self, meter: str, moment: datetime, volume: float) -> dict[str, Any]:
        made: dict[str, Any] = {
            "source": VERIFY,
            "counter_name": meter,
            "counter_type": "gauge",
            "counter_unit": "check",
            "counter_volume": volume,
            "user_id": self.who.user_id or None,
            "project_id": self.who.project_id,
            "resource_id": self.place,
            "timestamp": _text(moment),
            "resource_metadata": {"run": self.run, "display_name": VERIFY},
            "message_id": str(uuid.uuid4()),
        }
        if self.secret:
            made[signatures.FIELD] = signatures.signature(made, self.secret)
        return made


def _text(moment: datetime) -> str:
    return moment.replace(tzinfo=None).isoformat(timespec="microseconds")
