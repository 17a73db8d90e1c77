"""Counts how often the paths of definitions find a value, as notifications are converted."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from meterhouse.definitions.columns import Columns, Reader


@dataclass
class Use:
    """How often a path found a value in messages of one type; `missed` counts the messages since the last find."""

    messages: int = 0
    found: int = 0
    missed: int = 0

    def add(self, other: "Use") -> None:
        """Add the counts of the messages that came after."""
        self.messages += other.messages
        self.found += other.found
        self.missed = other.missed if other.found else self.missed + other.missed


def use_of(column: Sequence[Any], kinds: frozenset[type]) -> Use:
    """The use of a path that found these values.

    Args:
        column: the value in each message, None if the path found nothing, in the order of the messages.
        kinds: the types of the values.
    """
    if type(None) not in kinds:
        return Use(len(column), len(column), 0)
    if len(kinds) == 1:
        return Use(len(column), 0, len(column))
    missed = next(at for at, value in enumerate(reversed(column)) if value is not None)
    return Use(len(column), len(column) - column.count(None), missed)


class Uses(dict[tuple[str, Reader, str], Use]):
    """The use of paths, by event type, reader and path."""

    def add(self, event_type: str, reader: Reader, columns: Columns) -> None:
        """Count the columns that were read from a batch of notifications of one type."""
        for path, column in columns.found[reader].items():
            use = self.get((event_type, reader, path))
            if use is None:
                use = self[event_type, reader, path] = Use()
            use.add(columns.cached(("use", id(column)), use_of, column, columns.kinds(column)))
