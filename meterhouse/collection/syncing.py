"""Syncing: a batch is acknowledged when what was landed of it lies on the disk, and not in the system's memory alone.

That takes long where the disk is busy, so it is done behind the landing, for all batches that wait for it together.
"""

import os
import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from meterhouse.errors import MeterhouseError

Waiting = tuple[list[Path], Callable[[], None]]


class Syncer(threading.Thread):
    """Syncs files, and then acknowledges what they are of; in the order in which it is told."""

    def __init__(self) -> None:
        super().__init__(daemon=True, name="syncing")
        self._waiting: queue.Queue[Waiting | None] = queue.Queue()
        self._failure: Exception | None = None
        self.start()

    def acknowledge(self, files: list[Path], acknowledge: Callable[[], None]) -> None:
        """Acknowledge when the files are on the disk.

        Raises:
            MeterhouseError: files of an earlier batch could not be synced; it and this one are not acknowledged.
        """
        self._check()
        self._waiting.put((files, acknowledge))

    def wait(self) -> None:
        """Wait until all is synced and acknowledged.

        Raises:
            MeterhouseError: some of it could not be; from there on nothing is acknowledged.
        """
        self._waiting.join()
        self._check()

    def _check(self) -> None:
        if self._failure is not None:
            raise MeterhouseError(
                f"what is landed cannot be synced or acknowledged: {self._failure}",
                hint="Check the disks of lake and spool; what is landed is known when it comes again",
            ) from self._failure

    def close(self) -> None:
        """Sync and acknowledge what can be, and end."""
        self._waiting.put(None)
        self.join()

    def run(self) -> None:
        """Sync what waits, all of it together, and acknowledge."""
        more = True
        while more:
            found = [self._waiting.get()]
            with suppress(queue.Empty):
                while True:
                    found.append(self._waiting.get_nowait())
            more = None not in found
            try:
                if self._failure is None:
                    _finish([batch for batch in found if batch is not None])
            except Exception as error:  # of the disk, or of whoever is told; the thread that lands raises it
                self._failure = error
            finally:
                for _ in found:
                    self._waiting.task_done()


def _finish(batches: list[Waiting]) -> None:
    sync({file for files, _ in batches for file in files})
    for _, acknowledge in batches:
        acknowledge()


def sync(files: set[Path]) -> None:
    """Bring files, and the folders' entries of them, to the disk; what was deleted meanwhile is passed over.

    Data files come before the commits that name them.

    Raises:
        OSError: the disk does not keep them.
    """
    in_order = sorted(files, key=lambda file: (file.parent.name == "_delta_log", file))
    for place in [*in_order, *sorted({file.parent for file in files})]:
        with suppress(FileNotFoundError):
            handle = os.open(place, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
