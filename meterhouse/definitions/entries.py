"""Invalid entries of definition files. All faults of an entry are reported, not only the first."""

from collections.abc import Callable
from typing import Any, TypeVar

Made = TypeVar("Made")
Keys = tuple[str, ...]


class InvalidEntry(ValueError):
    """An entry of a definition file that cannot work.

    Attributes:
        faults: each with the keys that lead to it within the entry (empty for the entry itself), and its reason.
    """

    def __init__(self, faults: list[tuple[Keys, str]]) -> None:
        self.faults = faults
        super().__init__("; ".join(f"{keys[-1]}: {reason}" if keys else reason for keys, reason in faults))


class Faults:
    """Collects the faults of an entry."""

    def __init__(self) -> None:
        self._found: list[tuple[Keys, str]] = []

    def add(self, keys: Keys, reason: str) -> None:
        """Add a fault."""
        self._found.append((keys, reason))

    def attempt(self, keys: Keys, make: Callable[..., Made], *arguments: Any) -> Made | None:
        """The result of `make(*arguments)`; if it raises a ValueError, None, and the error is added as a fault."""
        try:
            return make(*arguments)
        except ValueError as error:
            self.add(keys, str(error))
            return None

    @property
    def found(self) -> tuple[tuple[Keys, str], ...]:
        """The faults so far, as in `InvalidEntry`."""
        return tuple(self._found)

    def raise_if_any(self) -> None:
        """Raise if there were faults.

        Raises:
            InvalidEntry: there were faults.
        """
        if self._found:
            raise InvalidEntry(self._found)
