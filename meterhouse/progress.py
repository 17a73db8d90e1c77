"""How a long step reports its progress: it calls a function with how much is done, and how much there is in total."""

from collections.abc import Callable

Progress = Callable[[int, int], None]


def no_progress(done: int, total: int) -> None:
    """Report nothing."""
