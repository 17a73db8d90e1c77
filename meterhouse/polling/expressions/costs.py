"""What an evaluation may cost: a number of steps, of which every operation takes as many as it reads and builds."""

from collections.abc import Iterable, Iterator
from typing import Any, Final

ENTRY_STEPS: Final = 100_000
"""Maximum number of steps for an expression on one entry of an answer: about a tenth of a second."""

ANSWER_STEPS: Final = 2_000_000
"""Maximum number of steps for an expression on a whole answer: a second or two."""

CHARACTERS: Final = 100
"""How many characters are read or built in a step."""

MAX_BITS: Final = 16_384
"""Maximum size of an integer; Python reads and writes integers of up to 14,284 bits (4,300 digits) as text."""

MAX_DEPTH: Final = 100
"""Maximum depth of calls of lambdas, and of values that are compared or made to text."""

MAX_NUMBER_KEYS: Final = 1_000
"""Maximum number of keys of a set or dict that are not texts: the hashes of numbers can be made to collide."""


VIEWS: Final[tuple[type[Any], ...]] = (type({}.keys()), type({}.values()), type({}.items()))
"""The types of views of dicts."""

_CONTAINERS: Final[tuple[type[Any], ...]] = (dict, list, tuple, set, frozenset, *VIEWS)


class ExpressionError(ValueError):
    """An expression that is not in the subset, or that has no value for an answer. The text says which and why."""


class Budget:
    """The steps that an evaluation has left."""

    __slots__ = ("built", "depth", "left", "steps")

    def __init__(self, steps: int) -> None:
        self.steps = self.left = steps
        self.depth = 0
        self.built = False

    def spend(self, steps: float) -> None:
        """Take these steps.

        Raises:
            ExpressionError: fewer are left.
        """
        self.left -= int(steps)
        if self.left < 0:
            raise ExpressionError(f"it would take more than {self.steps:,} steps")

    def spend_characters(self, count: int) -> None:
        """Take the steps for a text of this length."""
        if count >= CHARACTERS:
            self.spend(count // CHARACTERS)

    def iterate(self, values: Any) -> Iterator[Any]:
        """The elements of a container, a text or an iterator, each a step.

        Raises:
            TypeError: it has no elements.
        """
        return self._counted(iter(values))

    def _counted(self, values: Iterator[Any]) -> Iterator[Any]:
        for each in values:
            self.left -= 1
            if self.left < 0:
                raise ExpressionError(f"it would take more than {self.steps:,} steps")
            yield each

    def collect(self, values: Any) -> list[Any]:
        """The elements as a new list."""
        self.built = True
        return list(self.iterate(values))

    def spend_value(self, value: Any) -> int:
        """Take the steps for a walk over a value with all that is in it, and return how many."""
        if value is None or isinstance(value, int | float):
            return 1
        weight = weigh(value, self.left + 1)
        self.spend(weight)
        return weight


def weigh(value: Any, limit: int) -> int:
    """How many values and hundreds of characters are in a value. A part that is shared counts each time.

    Args:
        value: made of texts, numbers, lists, tuples, sets and dicts.
        limit: maximum number of containers and texts to look at.

    Raises:
        ExpressionError: it has more, or is nested more than `MAX_DEPTH` levels deep.
    """
    return _weigh(value, {}, [limit], 0)


def _weigh(value: Any, known: dict[int, int], left: list[int], depth: int) -> int:
    if isinstance(value, str):
        return 1 + len(value) // CHARACTERS
    if not isinstance(value, _CONTAINERS):
        return 1
    found = known.get(id(value))
    if found is not None:
        return found
    left[0] -= len(value) + 1
    if left[0] < 0:
        raise ExpressionError("the value is too large")
    if depth >= MAX_DEPTH:
        raise ExpressionError(f"the value is nested more than {MAX_DEPTH} levels deep")
    parts: Iterable[Any] = value
    total = 1
    if isinstance(value, dict):
        total += sum(_weigh(each, known, left, depth + 1) for each in value)
        parts = value.values()
    for each in parts:
        total += _weigh(each, known, left, depth + 1)
    known[id(value)] = total
    return total


def check_keys(keys: Iterable[Any]) -> None:
    """Refuse the keys of a set or dict if too many are not texts.

    Raises:
        ExpressionError: there are more than `MAX_NUMBER_KEYS`.
    """
    if sum(not isinstance(each, str) for each in keys) > MAX_NUMBER_KEYS:
        raise ExpressionError(f"a set or dict may have at most {MAX_NUMBER_KEYS:,} keys that are not texts")
