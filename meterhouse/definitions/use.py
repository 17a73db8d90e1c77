"""What the paths of definitions find: counted as notifications are converted."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

Reader = Literal["meter", "event"]


@dataclass
class Use:
    """What a path found in messages of one type; `missed` counts those since the last in which it found something."""

    messages: int = 0
    found: int = 0
    missed: int = 0

    def add(self, column: Sequence[Any]) -> None:
        """Count a column of values, None where nothing was found, in the order of the messages."""
        nothing = column.count(None)
        self.messages += len(column)
        self.found += len(column) - nothing
        if nothing == len(column):
            self.missed += nothing
        elif nothing:
            self.missed = next(at for at, value in enumerate(reversed(column)) if value is not None)
        else:
            self.missed = 0


class Uses(dict[tuple[str, Reader, str], Use]):
    """The use of paths, by event type, reader and path."""

    def add(self, event_type: str, reader: Reader, columns: Sequence[tuple[str, Sequence[Any]]]) -> None:
        """Count the columns that a batch of notifications of one type was read into, each with its path."""
        for path, column in columns:
            use = self.get((event_type, reader, path))
            if use is None:
                use = self[event_type, reader, path] = Use()
            use.add(column)
