"""Spreads requests over time."""

import threading
import time


class Rate:
    """So many requests per second, evenly spread. It is used by several threads at the same time.

    Args:
        per_second: how many.
    """

    def __init__(self, per_second: float) -> None:
        self._apart = 1 / per_second
        self._free_at = 0.0
        self._lock = threading.Lock()

    def wait(self, seconds: float) -> float | None:
        """Wait until a request may be sent.

        Args:
            seconds: how long at most.

        Returns:
            The seconds that it took; None, at once, if it would take longer.
        """
        with self._lock:
            now = time.monotonic()
            starts = max(now, self._free_at)
            if starts - now > seconds:
                return None
            self._free_at = starts + self._apart
        if starts > now:
            time.sleep(starts - now)
        return starts - now
