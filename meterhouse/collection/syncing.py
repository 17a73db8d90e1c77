"""Syncing: a batch is acknowledged when its files are on disk, and not only in the system's memory.

This takes long if the disk is busy. So a thread does it in parallel to landing, for all waiting batches together.
"""

import queue
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from meterhouse.errors import MeterhouseError
from meterhouse.stores.disk import sync

Waiting = tuple[list[Path], Callable[[], None]]


class Syncer(threading.Thread):
    """Syncs the files of batches and then acknowledges the batches, in order."""

    def __init__(self) -> None:
        super().__init__(daemon=True, name="syncing")
        self._waiting: queue.Queue[Waiting | None] = queue.Queue()
        self._failure: Exception | None = None
        self.start()

    def acknowledge(self, files: list[Path], acknowledge: Callable[[], None]) -> None:
        """Acknowledge a batch when its files are on disk.

        Raises:
            MeterhouseError: files of an earlier batch could not be synced; neither batch is acknowledged.
        """
        self._check()
        self._waiting.put((files, acknowledge))

    def wait(self) -> None:
        """Wait until everything is synced and acknowledged.

        Raises:
            MeterhouseError: a batch could not be synced or acknowledged; neither that batch nor a later one is
                acknowledged.
        """
        self._waiting.join()
        self._check()

    def _check(self) -> None:
        if self._failure is not None:
            raise MeterhouseError(
                f"landed messages cannot be synced or acknowledged: {self._failure}",
                hint="Check the disks of lake and spool. Landed messages are recognised when they come again",
            ) from self._failure

    def close(self) -> None:
        """Sync and acknowledge what is possible, and end the thread."""
        self._waiting.put(None)
        self.join()

    def run(self) -> None:
        """Sync all waiting batches together, and acknowledge them."""
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
            except Exception as error:  # of the disk or the stream; the thread that lands raises it
                self._failure = error
            finally:
                for _ in found:
                    self._waiting.task_done()


def _finish(batches: list[Waiting]) -> None:
    sync({file for files, _ in batches for file in files})
    for _, acknowledge in batches:
        acknowledge()
