"""A piece of work for an answer, from its beginning to its end."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from contextvars import copy_context
from dataclasses import dataclass, field
from time import monotonic
from typing import Any

from meterhouse import cancelling, costs
from meterhouse.cancelling import Cancellation


@dataclass(eq=False)
class Job:
    """A piece of work for an answer.

    Attributes:
        work: what is to be done, in any thread.
        owner: the project, or the user, for whom it is done.
        result: gets what the work returns or raises.
        loop: the loop that waits for it.
        cancellation: cancels it.
        made_at, begun_at: by `time.monotonic`; None if it has not begun.
    """

    work: Callable[[], Any]
    owner: str
    result: "asyncio.Future[Any]"
    loop: asyncio.AbstractEventLoop
    cancellation: Cancellation = field(default_factory=Cancellation)
    made_at: float = field(default_factory=monotonic)
    begun_at: float | None = None

    def do(self, most: int | None) -> bool:
        """Do the work; return whether it has ended, and does not have to be done again where it may read more.

        Args:
            most: how many rows it may read; None for any number.
        """
        if self.begun_at is None:
            self.begun_at = monotonic()
        try:
            found = copy_context().run(self._done, most)
        except costs.Costly:
            return False
        except BaseException as error:
            self.end(error=error)
        else:
            self.end(found)
        return True

    def _done(self, most: int | None) -> Any:
        with cancelling.during(self.cancellation):
            self.cancellation.check()
            if most is None:
                return self.work()
            with costs.at_most(most):
                return self.work()

    def end(self, found: Any = None, error: BaseException | None = None) -> None:
        """Give the result to whoever waits for it; from any thread."""

        def settle() -> None:
            if self.result.done():
                return
            if error is None:
                self.result.set_result(found)
            else:
                self.result.set_exception(error)

        with suppress(RuntimeError):  # the server has ended, and its loop with it
            self.loop.call_soon_threadsafe(settle)
