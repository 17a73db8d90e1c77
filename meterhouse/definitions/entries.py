"""Entries of definition files that cannot work: all that is wrong with one, not only the first fault."""

from collections.abc import Callable
from typing import Any, TypeVar

Made = TypeVar("Made")
Keys = tuple[str, ...]


class InvalidEntry(ValueError):
    """An entry of a definition file that cannot work.

    Attributes:
        faults: each with the keys that lead to it within the entry, none where it is the entry itself, and its reason.
    """

    def __init__(self, faults: list[tuple[Keys, str]]) -> None:
        self.faults = faults
        super().__init__("; ".join(f"{keys[-1]}: {reason}" if keys else reason for keys, reason in faults))


class Faults:
    """Gathers what is wrong with an entry."""

    def __init__(self) -> None:
        self._found: list[tuple[Keys, str]] = []

    def add(self, keys: Keys, reason: str) -> None:
        """Note a fault."""
        self._found.append((keys, reason))

    def attempt(self, keys: Keys, make: Callable[..., Made], *arguments: Any) -> Made | None:
        """What `make` gives for the arguments, None where it raises a ValueError, which is noted."""
        try:
            return make(*arguments)
        except ValueError as error:
            self.add(keys, str(error))
            return None

    def settle(self) -> None:
        """Go on only if there was none.

        Raises:
            InvalidEntry: there was one.
        """
        if self._found:
            raise InvalidEntry(self._found)
