"""Drops messages into a spool folder, see `spool`: as one file, which is there as a whole or not at all."""

import os
import time
import uuid
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from meterhouse.errors import Unavailable
from meterhouse.private_files import FILE_MODE, make_folder

PREFIX: Final = "posted-"
"""How the names of files begin that Meterhouse drops; while one is written, there is a dot before it."""

_SHARED: Final = 0o020
"""What a folder's mode has if the collector may be another user of its group."""


class SpoolPublisher:
    """Drops files into a folder, which is made if it does not exist.

    A file is written under a name that nobody reads, synced, renamed, and the folder is synced.

    Args:
        folder: the folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def publish(self, bodies: Sequence[bytes]) -> None:
        """Drop a file; see `Publisher`."""
        name = f"{PREFIX}{time.time_ns():020d}-{uuid.uuid4().hex}.jsonl"
        hidden, ready = self._folder / f".{name}", self._folder / name
        try:
            make_folder(self._folder)
            try:
                _write(
                    hidden, b"\n".join([*bodies, b""]), 0o640 if self._folder.stat().st_mode & _SHARED else FILE_MODE
                )
                hidden.rename(ready)
                _sync(self._folder)
            except OSError:
                for path in (hidden, ready):
                    with suppress(OSError):
                        path.unlink()
                raise
        except OSError as error:
            raise Unavailable(
                f"the spool folder cannot be written: {error.strerror or error}",
                where=str(self._folder),
                hint="Check its owner, and whether the disk is full",
            ) from error

    def idle(self) -> None:
        """Do nothing: a folder has no connection."""

    def close(self) -> None:
        """Do nothing: a folder has no connection."""


def _write(path: Path, content: bytes, mode: int) -> None:
    descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, mode)
    try:
        left = memoryview(content)
        while left:
            left = left[os.write(descriptor, left) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
