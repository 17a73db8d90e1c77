"""What is kept of answers for a while, within a number of entries."""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from time import monotonic
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Kept(Generic[K, V]):
    """Values that are forgotten at their time, and the least recently used one if there are too many.

    Args:
        entries: maximum number.
        clock: seconds that only grow.
    """

    def __init__(self, entries: int, clock: Callable[[], float] = monotonic) -> None:
        self._entries, self._clock = entries, clock
        self._values: OrderedDict[K, tuple[V, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._values)

    def get(self, key: K) -> V | None:
        """The value, if it is there and its time is not over."""
        found = self._values.get(key)
        if found is None:
            return None
        value, until = found
        if until <= self._clock():
            del self._values[key]
            return None
        self._values.move_to_end(key)
        return value

    def put(self, key: K, value: V, until: float) -> None:
        """Keep a value until an instant of the clock."""
        if until <= self._clock():
            return
        self._values[key] = value, until
        self._values.move_to_end(key)
        while len(self._values) > self._entries:
            self._values.popitem(last=False)
