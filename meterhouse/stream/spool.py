"""The spool: a folder that producers drop files of JSON lines into, by rename.

A file is ready when its name ends in `.jsonl` or `.jsonl.gz` and does not start with a dot. It has one message a line,
with or without oslo.messaging's envelope. It is deleted only when all of its messages are landed. A damaged file stays,
renamed to `NAME.corrupt`, because it has messages that could not be read.
"""

import logging
import time
from collections.abc import Generator, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from meterhouse.errors import MeterhouseError
from meterhouse.stream import Backlog, Batch, Raw, Waiting
from meterhouse.stream.files import Damaged, numbered_lines

ENDINGS = (".jsonl", ".jsonl.gz")
LOOK_SECONDS = 0.25
"""How often an empty folder is checked for new files."""

log = logging.getLogger(__name__)


class Spool:
    """A spool folder. It is created if it does not exist.

    Args:
        folder: the folder.
        max_bytes: bytes of messages at which a batch ends, which limits the memory that long messages take.
    """

    name = "spool"

    def __init__(self, folder: Path, max_bytes: int = 64 << 20) -> None:
        self.folder = folder
        self.max_bytes = max_bytes

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

    def close(self) -> None:
        """Do nothing: a folder has no connection."""

    def backlog(self, *, keep: bool = False) -> Backlog:
        """What waits to be collected, by the names and sizes of the files."""
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
        since = datetime.fromtimestamp(oldest, UTC) if oldest is not None else None
        return Backlog((Waiting(str(self.folder), files, bytes=size, oldest=since),))

    def batches(self, max_messages: int, *, quiet_seconds: float = 0.0, follow: bool = False) -> Generator[Batch]:
        """Batches of at most `max_messages` and about `max_bytes`, until no file has come for `quiet_seconds`.

        With `follow` it continues endlessly. Small files are taken together. A large one is divided, and deleted with
        its last part. A file that cannot be opened is skipped and stays.
        """
        came = time.monotonic()
        while True:
            for batch in self._ready_batches(max_messages):
                yield batch
                came = time.monotonic()
            if not follow and time.monotonic() - came >= quiet_seconds:
                return
            yield Batch([])
            time.sleep(LOOK_SECONDS)

    def _ready_batches(self, max_messages: int) -> Iterator[Batch]:
        """Batches of the files that are ready now or become ready meanwhile."""
        taken: list[Raw] = []
        read: dict[Path, bool] = {}  # file → whether it is whole

        def batch() -> Batch:
            files = dict(read)

            def acknowledge() -> None:
                for path, whole in files.items():
                    if whole:
                        path.unlink(missing_ok=True)
                    else:
                        with suppress(FileNotFoundError):  # another process did
                            path.replace(path.with_name(f"{path.name}.corrupt"))

            made = Batch(list(taken), acknowledge, at_once=True)
            taken.clear()
            read.clear()
            return made

        size = 0
        while ready := self._ready():
            for path in ready:
                whole = True
                try:
                    for raw in _lines(path):
                        taken.append(raw)
                        size += len(raw.body)
                        whole = not raw.fault
                        if len(taken) >= max_messages or size >= self.max_bytes:
                            yield batch()
                            size = 0
                except FileNotFoundError:
                    continue  # landed by another process
                except OSError as error:
                    log.warning("%s cannot be read and stays in the spool: %s", path, error.strerror)
                    continue
                read[path] = whole
            if taken or read:
                yield batch()
                size = 0
            if any(path.exists() for path in ready):  # not acknowledged: the caller stopped early
                return


def _lines(path: Path) -> Iterator[Raw]:
    """The file's lines. If it is damaged, the last message has the fault.

    Raises:
        OSError: the file cannot be opened or read.
    """
    try:
        for number, line in numbered_lines(path):
            if body := line.strip():
                yield Raw(body, f"spool:{path.name}:{number}")
    except Damaged as damage:
        yield Raw(b"", f"spool:{path.name}:{damage.number}", fault=str(damage))
