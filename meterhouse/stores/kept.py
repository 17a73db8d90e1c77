"""What was computed from the stores, kept for as long as they have not changed. Only a server keeps anything."""

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, Final, TypeVar, cast

from meterhouse.stores.kept_files import KeptFiles
from meterhouse.stores.warehouse import Warehouse
from meterhouse.stores.warehouse_stamp import Stamp, WarehouseStamp

T = TypeVar("T")

VALUES: Final = 1_000
"""Maximum number of values that are kept."""


class Kept:
    """What was computed from a warehouse, and the columns of data files.

    Args:
        warehouse: the warehouse.

    Attributes:
        files: the columns of data files.
    """

    def __init__(self, warehouse: Warehouse) -> None:
        self.files = KeptFiles()
        self._stamp: Stamp | None = None
        self._states = WarehouseStamp(warehouse)
        self._values: OrderedDict[Hashable, Any] = OrderedDict()
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
            self._values.clear()

    def of_warehouse(self, key: Hashable, compute: Callable[[], T]) -> T:
        """A value that depends on the warehouse and its key alone; nobody may change it.

        Args:
            key: what it is, and all that it depends on besides the warehouse.
            compute: computes it, from what transactions see that begin then.
        """
        if not self._keeps:
            return compute()
        stamp = self._states.now()
        with self._lock:
            if stamp != self._stamp:
                self._values.clear()
                self._stamp = stamp
            if key in self._values:
                self._values.move_to_end(key)
                return cast(T, self._values[key])
        value = compute()
        with self._lock:
            if stamp == self._stamp:
                self._values[key] = value
                while len(self._values) > VALUES:
                    self._values.popitem(last=False)
        return value

    def stamp(self) -> Stamp:
        """The stamp of the warehouse; see `WarehouseStamp`."""
        return self._states.now()
