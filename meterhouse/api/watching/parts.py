"""Parts of a site that are looked at now and then: a store, the stream, Keystone. One that hangs holds up nobody."""

import asyncio
import logging
from collections.abc import Awaitable, Callable
from time import monotonic
from typing import Final, Generic, TypeVar

from meterhouse.untrusted import printable

T = TypeVar("T")

WITHIN_SECONDS: Final = 3.0
"""How long a look at a part may take; later, the part counts as away."""

LOG_SECONDS: Final = 60.0
"""How often it is logged at most that a part is away."""

log = logging.getLogger(__name__)


class Part(Generic[T]):
    """One part, and what was last seen of it.

    Args:
        name: of the part, such as `warehouse`.
        look: what looks at it. It raises an error if the part is away.
        seconds: how long what was seen is shown before it is looked at again.
        clock: seconds that only grow.
    """

    def __init__(
        self, name: str, look: Callable[[], Awaitable[T]], seconds: float, clock: Callable[[], float] = monotonic
    ) -> None:
        self.name = name
        self._look, self._seconds, self._clock = look, seconds, clock
        self._running: asyncio.Future[T] | None = None
        self._seen: tuple[float, T | None] | None = None
        self._logged = -LOG_SECONDS

    async def seen(self) -> T | None:
        """What there is to see; None if the part is away."""
        if self._seen is not None and self._clock() - self._seen[0] < self._seconds:
            return self._seen[1]
        if self._running is None:
            self._running = asyncio.ensure_future(self._look())
            self._running.add_done_callback(self._ended)
        running = self._running
        await asyncio.wait({running}, timeout=WITHIN_SECONDS)
        if not running.done():
            self._away(f"no answer within {WITHIN_SECONDS:g} s")
            return None
        return None if running.cancelled() or running.exception() else running.result()

    def _ended(self, done: "asyncio.Future[T]") -> None:
        self._running = None
        if done.cancelled():
            return
        if (error := done.exception()) is not None:
            self._away(f"{type(error).__name__}: {error}")
        self._seen = self._clock(), None if error is not None else done.result()

    def _away(self, why: str) -> None:
        if self._clock() - self._logged >= LOG_SECONDS:
            self._logged = self._clock()
            log.warning("%s is away: %s", self.name, printable(why))
