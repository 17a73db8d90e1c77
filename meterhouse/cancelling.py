"""Work that may be cancelled, because nobody waits for its answer any more. Commands are never cancelled in this way.

Whoever runs a piece of work does so `during` a `Cancellation`. Code that reads calls `check` between its pieces, and
does what may take long within `interruptible`. Nothing has to be passed on: threads that help with the work take it
over, see `taken_over`.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from itertools import count


class Cancelled(BaseException):
    """The work was cancelled. It is not an `Exception`, so that nothing takes it for a fault of what was read."""


class Cancellation:
    """Cancels a piece of work, from another thread."""

    def __init__(self) -> None:
        self._cancelled = False
        self._interrupts: dict[int, Callable[[], None]] = {}
        self._lock = threading.Lock()
        self._numbers = count()

    @property
    def cancelled(self) -> bool:
        """Whether the work was cancelled."""
        return self._cancelled

    def cancel(self) -> None:
        """Cancel the work, and interrupt what it waits for.

        Databases forget an interrupt that comes between two statements, so call it again until the work has ended.
        """
        self._cancelled = True
        with self._lock:  # what was interrupted is used for nothing else before this is over
            for interrupt in self._interrupts.values():
                with suppress(Exception):  # it has ended meanwhile, or its server is away
                    interrupt()

    def check(self) -> None:
        """Raise Cancelled if the work was cancelled."""
        if self._cancelled:
            raise Cancelled

    @contextmanager
    def interruptible(self, interrupt: Callable[[], None]) -> Iterator[None]:
        """Let `interrupt` be called while the block runs. The block then ends with an error of any kind.

        Raises:
            Cancelled: the work was cancelled before.
        """
        self.check()
        number = next(self._numbers)
        with self._lock:
            self._interrupts[number] = interrupt
        try:
            yield
        finally:
            with self._lock:
                del self._interrupts[number]


_NEVER = Cancellation()
_current: ContextVar[Cancellation] = ContextVar("cancellation", default=_NEVER)


def current() -> Cancellation:
    """The cancellation of the work that this thread does; one that nobody calls if there is none."""
    return _current.get()


def check() -> None:
    """Raise Cancelled if the work that this thread does was cancelled."""
    _current.get().check()


@contextmanager
def interruptible(interrupt: Callable[[], None]) -> Iterator[None]:
    """See `Cancellation.interruptible`; without a cancellation, nothing happens."""
    mine = _current.get()
    if mine is _NEVER:
        yield
        return
    with mine.interruptible(interrupt):
        yield


@contextmanager
def during(cancellation: Cancellation) -> Iterator[None]:
    """Let this thread's work be cancelled by a cancellation while the block runs."""
    token = _current.set(cancellation)
    try:
        yield
    finally:
        _current.reset(token)


def taken_over(cancellation: Cancellation) -> None:
    """Let all that this thread does from now on be cancelled: for the threads of a pool that helps with one work."""
    _current.set(cancellation)
