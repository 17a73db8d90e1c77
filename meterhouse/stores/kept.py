"""What was computed from the stores, kept for as long as they have not changed. Only a server keeps anything."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, Final, NamedTuple, TypeVar, cast

from meterhouse.stores.kept_files import KeptFiles
from meterhouse.stores.warehouse import Warehouse
from meterhouse.stores.warehouse_stamp import Stamp, WarehouseStamp

T = TypeVar("T")

BYTES: Final = 128 << 20
"""About how many bytes of values are kept."""

SMALL: Final = 1_000
"""About how many bytes a value takes whose size is not said."""


class _Entry(NamedTuple):
    """A kept value; the stamp of the warehouse that it is of, None if it is of none; and its bytes."""

    value: Any
    stamp: Stamp | None
    size: int


class Kept:
    """What was computed from a warehouse, and the columns of data files; what was used last.

    Args:
        warehouse: the warehouse.

    Attributes:
        files: the columns of data files.
    """

    def __init__(self, warehouse: Warehouse) -> None:
        self.files = KeptFiles()
        self._states = WarehouseStamp(warehouse)
        self._entries: OrderedDict[Hashable, _Entry] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()
        self._keeps = False

    def begin(self) -> None:
        """Keep values from now on."""
        self._keeps = True
        self.files.begin()

    def end(self) -> None:
        """Keep nothing any more."""
        self._keeps = False
        self.files.end()
        self._states.close()
        with self._lock:
            self._entries.clear()
            self._bytes = 0

    def stamp(self) -> Stamp:
        """The stamp of the warehouse; see `WarehouseStamp`."""
        return self._states.now()

    def of(self, key: Hashable, compute: Callable[[], T], size: Callable[[T], int] = lambda value: SMALL) -> T:
        """A value that depends on its key alone; nobody may change it.

        Args:
            key: what it is.
            compute: computes it.
            size: about how many bytes it takes.
        """
        if not self._keeps:
            return compute()
        known = self._known(key)
        if known is not None:
            return cast(T, known.value)
        value = compute()
        self._keep(key, _Entry(value, None, size(value)))
        return value

    def of_warehouse(
        self,
        key: Hashable,
        compute: Callable[[], T],
        size: Callable[[T], int] = lambda value: SMALL,
        *,
        is_same: Callable[[T], bool] = lambda value: False,
    ) -> T:
        """A value that depends on the warehouse and its key alone; nobody may change it.

        Args:
            key: what it is, and all that it depends on besides the warehouse.
            compute: computes it, from what transactions see that begin then.
            size: about how many bytes it takes.
            is_same: whether a value would be computed again as it is, although the warehouse has changed.
        """
        if not self._keeps:
            return compute()
        stamp, known = self._states.now(), self._known(key)
        if known is not None and known.stamp == stamp:
            return cast(T, known.value)
        value = cast(T, known.value) if known is not None and is_same(known.value) else compute()
        self._keep(key, _Entry(value, stamp, size(value)))
        return value

    def _known(self, key: Hashable) -> _Entry | None:
        with self._lock:
            found = self._entries.get(key)
            if found is not None:
                self._entries.move_to_end(key)
            return found

    def _keep(self, key: Hashable, entry: _Entry) -> None:
        with self._lock:
            before = self._entries.pop(key, None)
            self._bytes += entry.size - (0 if before is None else before.size)
            self._entries[key] = entry
            while self._bytes > BYTES and len(self._entries) > 1:
                self._bytes -= self._entries.popitem(last=False)[1].size
