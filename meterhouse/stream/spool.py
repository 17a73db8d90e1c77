"""The spool: a folder into which producers drop files of JSON lines, by rename.

A file is ready when its name ends in `.jsonl` or `.jsonl.gz` and does not start with a dot. It holds one message a
line, in oslo.messaging's envelope or bare. It leaves the folder only when all of its messages are landed.
"""

import gzip
import zlib
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from meterhouse.errors import MeterhouseError
from meterhouse.stream import Backlog, Batch, Raw

ENDINGS = (".jsonl", ".jsonl.gz")


class Spool:
    """A spool folder; made where it does not exist."""

    name = "spool"

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def _ready(self) -> list[Path]:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            return sorted(
                path
                for path in self.folder.iterdir()
                if path.name.endswith(ENDINGS) and not path.name.startswith(".") and path.is_file()
            )
        except OSError as error:
            raise MeterhouseError(
                f"the spool folder cannot be read: {error.strerror}",
                where=str(self.folder),
                hint="Check METERHOUSE_STREAM_URL and the folder's owner",
            ) from error

    def backlog(self) -> Backlog:
        """What waits to be collected; looks at names and sizes only."""
        files = size = 0
        oldest = None
        for path in self._ready():
            try:
                status = path.stat()
            except FileNotFoundError:
                continue
            files += 1
            size += status.st_size
            oldest = status.st_mtime if oldest is None else min(oldest, status.st_mtime)
        return Backlog(files, size, datetime.fromtimestamp(oldest, UTC) if oldest is not None else None)

    def batches(self, most: int) -> Iterator[Batch]:
        """Batches of at most `most` messages, until no file is ready.

        Small files are taken together; a large one is cut, and leaves with its last piece.
        """
        taken: list[Raw] = []
        read: list[Path] = []

        def batch() -> Batch:
            files = list(read)

            def acknowledge() -> None:
                for path in files:
                    path.unlink(missing_ok=True)

            made = Batch(list(taken), acknowledge)
            taken.clear()
            read.clear()
            return made

        while ready := self._ready():
            for path in ready:
                for raw in _lines(path):
                    taken.append(raw)
                    if len(taken) >= most:
                        yield batch()
                read.append(path)
            if taken or read:
                yield batch()
            if any(path.exists() for path in ready):  # not acknowledged: the taker stopped half-way
                return


def _lines(path: Path) -> Iterator[Raw]:
    """The file's lines; one faulty message at the end where it cannot be read to its end."""
    opened = gzip.open if path.name.endswith(".gz") else open
    number = 0
    try:
        with opened(path, "rb") as handle:
            for number, line in enumerate(handle, 1):
                body = line.strip()
                if body:
                    yield Raw(body, f"spool:{path.name}:{number}")
    except (OSError, EOFError, zlib.error) as error:
        yield Raw(b"", f"spool:{path.name}:{number + 1}", fault=f"the file cannot be read on: {error}")
