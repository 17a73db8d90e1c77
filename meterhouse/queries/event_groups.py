"""The row groups of files of events that may have the traits that a condition asks for."""

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote

import pyarrow as pa

from meterhouse import cancelling
from meterhouse.filters import Condition
from meterhouse.stores.group_reading import GroupReader
from meterhouse.stores.lake import Lake
from meterhouse.stores.lake_tables import columns_of_files
from meterhouse.stores.trait_filters import Fetch, Sought
from meterhouse.times import Span

TABLE: Final = "events"
COLUMNS: Final = ("message_id", "event_type", "generated", "traits")

THREADS: Final = 2

FAR_THREADS: Final = 16
"""How many files are read at once from an object store, whose answers take long."""

AT_ONCE: Final = 16
"""How many files a thread is given: to hand it one takes as long as to look into it."""

TAIL: Final = 1 << 16
"""How many bytes of the end of a file are read at once from an object store."""


@dataclass(frozen=True)
class Found:
    """Where the events are that may fulfil a condition.

    Attributes:
        whole: files in which they may be anywhere.
        events: the row groups that may have them, of the other files: COLUMNS.
    """

    whole: list[str]
    events: pa.Table | None = None


def look_up(lake: Lake, condition: Condition, span: Span) -> Found:
    """Find the events that may fulfil a condition, in the files that may have events of a span.

    Raises:
        Replaced: a file was replaced and deleted meanwhile.
        Damaged: a file cannot be read.
    """
    files = lake.matching(TABLE, overlapping=("generated", [span]))
    paths = files["path"].to_pylist()
    sought = Sought(condition)
    if not sought:
        return Found(paths)
    reader = _Reader(lake, sought)
    known = list(zip(paths, files["size_bytes"].to_pylist(), strict=True))
    batches = [known[start : start + AT_ONCE] for start in range(0, len(known), AT_ONCE)]
    number = THREADS if lake.object_store is None else FAR_THREADS
    with ThreadPoolExecutor(number, "events", cancelling.taken_over, (cancelling.current(),)) as threads:
        found = [each for batch in threads.map(reader.read, batches) for each in batch]
    groups = [each for each in found if isinstance(each, tuple)]
    whole = [each for each in found if isinstance(each, str)]
    return Found(whole, GroupReader(columns_of_files(TABLE)).read(groups, COLUMNS) if len(found) > len(whole) else None)


@dataclass(frozen=True)
class _Reader:
    lake: Lake
    sought: Sought

    def read(self, files: list[tuple[str, int]]) -> list[tuple[bytes, bytes] | str]:
        """Of files by their path and size: the path of those without filters; of others, head and pages of groups."""
        found: list[tuple[bytes, bytes] | str] = []
        for path, size in files:
            cancelling.check()
            try:
                with self._parts(path, size) as fetch:
                    groups = self.sought.groups(size, fetch)
                    if groups is None:
                        found.append(path)
                        continue
                    for place in groups:
                        both = fetch(place.at, place.head + place.pages)
                        found.append((both[: place.head], both[place.head :]))
            except OSError as error:
                raise self.lake.file_fault(TABLE, path, error) from error
        return found

    @contextmanager
    def _parts(self, path: str, size: int) -> Iterator[Fetch]:
        """Reads parts of a file."""
        target = f"{self.lake.uri(TABLE)}/{unquote(path)}"
        if self.lake.object_store is not None:
            yield _from_store(
                lambda start, end: bytes(self.lake.filesystem.cat_file(target, start=start, end=end)), size
            )
            return
        handle = os.open(target, os.O_RDONLY)
        try:
            yield lambda at, count: os.pread(handle, count, at)
        finally:
            os.close(handle)


def _from_store(read: Callable[[int, int], bytes], size: int) -> Fetch:
    """Reads parts of a file of an object store. Its end is read once: what is looked for is mostly there."""
    begin = max(size - TAIL, 0)
    tail = read(begin, size)

    def fetch(at: int, count: int) -> bytes:
        return tail[at - begin : at - begin + count] if at >= begin else read(at, at + count)

    return fetch
