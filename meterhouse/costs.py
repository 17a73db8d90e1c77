"""What a question costs: the rows that it reads. It says so before it reads them, so that it may be answered elsewhere.

A question that is answered `at_most` so many rows ends with `Costly` once it would read more. Commands have no bound.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


class Costly(BaseException):
    """The question reads more rows than it may. It is not an `Exception`, so that nothing takes it for a fault."""


@dataclass
class _Bound:
    rows: int


_bound: ContextVar[_Bound | None] = ContextVar("bound of rows", default=None)


@contextmanager
def at_most(rows: int) -> Iterator[None]:
    """Let this thread read so many rows while the block runs."""
    token = _bound.set(_Bound(rows))
    try:
        yield
    finally:
        _bound.reset(token)


def bounded() -> bool:
    """Whether there is a bound: otherwise rows need not be counted."""
    return _bound.get() is not None


def expect(rows: int) -> None:
    """Say that about so many rows are read next.

    Raises:
        Costly: all together, they are more than this question may read here.
    """
    bound = _bound.get()
    if bound is not None:
        bound.rows -= rows
        if bound.rows < 0:
            raise Costly
