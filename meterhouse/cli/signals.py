"""Commands that end cleanly when a signal asks them to."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def ended_by_signal() -> Iterator[Callable[[], bool]]:
    """Give the block a function that says whether SIGTERM or SIGINT has asked it to end; a second one ends it at once.

    An exception out of a signal's handler could be lost: libraries turn it into errors of their own.
    """
    asked: list[int] = []

    def ask(number: int, frame: FrameType | None) -> None:
        asked.append(number)
        if len(asked) > 1:
            end()

    def end() -> None:
        if signal.SIGINT in asked:
            raise KeyboardInterrupt
        if asked:
            raise SystemExit(0)

    before = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    end()
