"""The columns of data files that were read last. A data file never changes, so they are as good as the file."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

BYTES: Final = 256 << 20
"""How many bytes of columns are kept."""

Columns = Mapping[str, Any]
"""Columns of a file by name: arrays of NumPy or Arrow, which nobody may change."""


class KeptFiles:
    """Columns of data files, by the file and the name of the column; those that were used last.

    Args:
        limit: how many bytes are kept.
    """

    def __init__(self, limit: int = BYTES) -> None:
        self._limit = limit
        self._files: OrderedDict[str, dict[str, Any]] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()
        self._keeps = False

    def begin(self) -> None:
        """Keep columns from now on."""
        self._keeps = True

    def end(self) -> None:
        """Keep nothing any more."""
        with self._lock:
            self._keeps, self._bytes = False, 0
            self._files.clear()

    def of(
        self, path: str, names: Sequence[str], read: Callable[[list[str]], Columns], *, keep: bool = True
    ) -> Columns:
        """Columns of a file.

        Args:
            path: the file, by a name that no other has.
            names: of the columns.
            read: reads some columns.
            keep: whether to keep what is read. A question that reads many files would put out all others.
        """
        with self._lock:
            known = dict(self._files.get(path, {}))
            if known:
                self._files.move_to_end(path)
        missing = [name for name in names if name not in known]
        if missing:
            found = read(missing)
            known.update(found)
            if keep and self._keeps:
                self._add(path, found)
        return known

    def has_room_for(self, size: int) -> bool:
        """Whether so many bytes leave room for those of other questions."""
        return 2 * size <= self._limit

    def _add(self, path: str, found: Columns) -> None:
        with self._lock:
            mine = self._files.setdefault(path, {})
            for name, column in found.items():
                if name not in mine:
                    mine[name] = column
                    self._bytes += column.nbytes
            while self._bytes > self._limit and len(self._files) > 1:
                _, gone = self._files.popitem(last=False)
                self._bytes -= sum(column.nbytes for column in gone.values())
