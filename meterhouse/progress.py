"""How a long step tells its caller how far it is: by calling a function with what is done and what there is in all."""

from collections.abc import Callable

Progress = Callable[[int, int], None]


def quiet(done: int, total: int) -> None:
    """Tell nobody."""
