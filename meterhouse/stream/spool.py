"""The spool: a folder that producers drop files of JSON lines into, by rename.

A file is ready when its name ends in `.jsonl` or `.jsonl.gz` and does not start with a dot. It has one message a line,
with or without oslo.messaging's envelope. It is deleted only when all of its messages are landed. A file that is
damaged, or has a message that is too long, stays, renamed to `NAME.corrupt`, because it has messages that are nowhere
else.

Whoever may write into the folder must not choose what Meterhouse reads elsewhere: links are not followed.
"""

import logging
import stat
import time
from collections.abc import Generator, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from meterhouse.errors import MeterhouseError
from meterhouse.private_files import make_folder
from meterhouse.stream import LONGEST, Backlog, Batch, Raw, Waiting, too_long
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
        longest: maximum number of bytes of a message; of a longer one, only the start is taken, with a fault.
    """

    name = "spool"

    def __init__(self, folder: Path, max_bytes: int = 64 << 20, longest: int = LONGEST) -> None:
        self.folder = folder
        self.max_bytes = max_bytes
        self.longest = longest
        self._warned: set[Path] = set()

    def _ready(self) -> list[Path]:
        try:
            make_folder(self.folder)
            named = [
                path for path in self.folder.iterdir() if path.name.endswith(ENDINGS) and not path.name.startswith(".")
            ]
            self._warned.intersection_update(named)
            return sorted(path for path in named if self._is_regular(path))
        except OSError as error:
            raise MeterhouseError(
                f"the spool folder cannot be read: {error.strerror}",
                where=str(self.folder),
                hint="Check METERHOUSE_STREAM_URL and the folder's owner",
            ) from error

    def _is_regular(self, path: Path) -> bool:
        """Whether this is a file itself; if not, a warning is logged once."""
        try:
            mode = path.lstat().st_mode
        except FileNotFoundError:  # landed by another process
            return False
        if stat.S_ISREG(mode):
            return True
        kind = "a link" if stat.S_ISLNK(mode) else "a folder" if stat.S_ISDIR(mode) else "a pipe, socket or device"
        self._warn(path, f"is skipped: it is {kind}, and the spool takes only files. Move it out of the spool")
        return False

    def _warn(self, path: Path, what: str) -> None:
        """Log what is wrong with an entry of the folder, once."""
        if path not in self._warned:
            self._warned.add(path)
            log.warning("%s %s", path, what)

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
                    for raw in _lines(path, self.longest):
                        taken.append(raw)
                        size += len(raw.body)
                        whole = whole and not raw.fault
                        if len(taken) >= max_messages or size >= self.max_bytes:
                            yield batch()
                            size = 0
                except FileNotFoundError:
                    continue  # landed by another process
                except OSError as error:
                    self._warn(path, f"cannot be read and stays in the spool: {error.strerror}. Check its owner")
                    continue
                read[path] = whole
            if taken or read:
                yield batch()
                size = 0
            if any(path.exists() for path in ready):  # not acknowledged: the caller stopped early
                return


def _lines(path: Path, longest: int) -> Iterator[Raw]:
    """The file's messages. One that is too long has a fault; if the file is damaged, so has the last one.

    Raises:
        OSError: the file cannot be opened or read.
    """
    try:
        for number, line, size in numbered_lines(path, longest):
            if body := line.strip() if size <= longest else line:
                yield Raw(body, f"spool:{path.name}:{number}", too_long(size, longest))
    except Damaged as damage:
        yield Raw(damage.start, f"spool:{path.name}:{damage.number}", str(damage))
