"""The time by the warehouse's clock, whatever the clock of this host shows."""

import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Final

from sqlalchemy import Connection

from meterhouse.stores import clock


def steady() -> float:
    """Seconds of a clock that nobody sets; it goes on while the host is suspended, if the system has such a clock."""
    return time.clock_gettime(_STEADY)


_STEADY: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


class Clock:
    """The warehouse's clock, read now and then. In between, this host's steady clock counts on.

    It may be used from any thread.

    Attributes:
        ahead: by how many seconds this host's clock was ahead when it was last compared; negative if it is behind.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._steady, self._instant = steady(), datetime.now(UTC)
        self.ahead = 0.0

    def compare(self, connection: Connection) -> None:
        """Read the warehouse's clock; the transaction is that of whoever talks to the warehouse anyway."""
        before = steady()
        instant = clock.present(connection)
        after = steady()
        with self._lock:
            self._steady, self._instant = (before + after) / 2, instant
            self.ahead = (datetime.now(UTC) - instant).total_seconds() - (after - before) / 2

    def now(self) -> datetime:
        """The present instant, UTC."""
        with self._lock:
            return self._instant + timedelta(seconds=steady() - self._steady)
