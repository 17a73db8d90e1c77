"""What fails and is retried: one log line when it begins, one when it is over."""

import logging
import time
from typing import Final

RETRY_SECONDS: Final = (0.25, 1.0)
"""The first and the longest pause before a retry. Each pause is twice as long as the one before."""

log = logging.getLogger(__name__)


class Trouble:
    """Something that may fail for a while. Use it from one thread.

    Args:
        what: a noun: what is retried.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._said = ""
        self._since = self._retry_at = 0.0
        self._pause = RETRY_SECONDS[0]

    @property
    def said(self) -> str:
        """Why it fails; empty if it does not."""
        return self._said

    def began(self, error: Exception) -> None:
        """It has failed, for the first time or again."""
        now = time.monotonic()
        if not self._said:
            self._since, self._pause = now, RETRY_SECONDS[0]
            log.warning("%s fails and is retried: %s", self._what, error)
        self._said = str(error)
        self._retry_at = now + self._pause
        self._pause = min(2 * self._pause, RETRY_SECONDS[1])

    def ended(self) -> None:
        """It has worked."""
        if self._said:
            log.warning("%s works again after %.1f s", self._what, time.monotonic() - self._since)
        self._said, self._retry_at = "", 0.0

    def waits(self) -> float:
        """Seconds until the retry; 0 if it can be done now."""
        return max(0.0, self._retry_at - time.monotonic())
