"""An index of the message_ids landed within the last hours, which recognises redelivered messages.

The lake's `notifications` is the only source of truth. The index is a copy with fast lookups: for each arrival hour,
the sorted hashes (xxh3, 128 bits) of the ids, and the names of the data files that they come from. Data files never
change, so an hour is exact if its names are those of the live files. Files that it does not name are read. If a file
that it names was removed with its rows, the hour is rebuilt. Each commit is read once, so a batch costs the same
however many files and messages there are. All but the newest ids are in memory-mapped files.

A cache file is written under another name and renamed, and verified when it is opened. So it may be deleted, out of
date or damaged at any time: then the lake is read.
"""

import contextlib
import logging
import mmap
import os
import struct
import time
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
import orjson
import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable
from xxhash import xxh3_64, xxh3_128_digest

from meterhouse import times
from meterhouse.stores.lake import Lake

log = logging.getLogger(__name__)

Words = npt.NDArray[np.uint64]
Hashes = tuple[Words, Words]
"""The high and the low halves of ids' hashes, shape (n,) each, sorted by the high halves."""

_TABLE = "notifications"
_MAX_WAITING_IDS = 500_000
_MAX_WAITING_FILES = 200
_MAX_COMMITS = 100
_FILES_AT_ONCE = 500
_PART_SECONDS = 600.0

_MAGIC = b"landed 1"
_HEADER = struct.Struct("<8sQQQQ")  # magic, ids, words of the filter, bytes of the names, checksum


@dataclass(frozen=True)
class _Run:
    """Sorted hashes, and a filter that they and few others pass: its word at `_slots` has all of their `_bits`."""

    high: Words
    low: Words
    filter: Words

    def find(self, high: Words, low: Words, bits: Words) -> npt.NDArray[np.bool_]:
        """Which of these hashes are in the run; `bits` are the hashes' `_bits`."""
        found = np.zeros(len(high), np.bool_)
        wanted = np.flatnonzero((self.filter.take(_slots(high, len(self.filter))) & bits) == bits)
        places = np.searchsorted(self.high, high[wanted])
        while len(wanted):
            inside = places < len(self.high)
            wanted, places = wanted[inside], places[inside]
            same = self.high[places] == high[wanted]
            wanted, places = wanted[same], places[same]
            equal = self.low[places] == low[wanted]
            found[wanted[equal]] = True
            # Other hashes with the same high half, if any, come next.
            wanted, places = wanted[~equal], places[~equal] + 1
        return found


@dataclass
class _Hour:
    """The ids of an arrival hour.

    Attributes:
        names: the data files whose ids are in it.
        stored: the content of the cache file, memory-mapped.
        fresh: runs in memory, each more than twice as long as the next.
        dirty: whether the cache file is out of date.
        waiting_ids, waiting_files: what came since the cache file was last written, or failed to be.
    """

    names: set[str] = field(default_factory=set)
    stored: _Run | None = None
    fresh: list[_Run] = field(default_factory=list)
    dirty: bool = False
    waiting_ids: int = 0
    waiting_files: int = 0

    def runs(self) -> list[_Run]:
        return self.fresh if self.stored is None else [self.stored, *self.fresh]

    def add(self, names: set[str], high: Words, low: Words) -> None:
        """Add data files with the ids that are in them."""
        self.fresh.append(_run(high, low))
        self.waiting_ids += len(high)
        while len(self.fresh) > 1 and len(self.fresh[-2].high) <= 2 * len(self.fresh[-1].high):
            self.fresh[-2:] = [_run(*_joined(self.fresh[-2:]))]
        self.rename(set(), names)

    def rename(self, gone: set[str], names: set[str]) -> None:
        """Replace the names of data files by those of files that hold the same ids."""
        self.names = (self.names - gone) | names
        self.waiting_files += len(names)
        self.dirty = True


class Landed:
    """Which message_ids are in the lake's `notifications`, in the arrival hours of the last `hours` hours.

    Use it from one thread. Any number of processes may share the lake and the folder.

    Args:
        lake: the lake.
        folder: the folder of the cache files, `<folder>/<identity of the table>/<arrival hour>.ids`.
        hours: how far back ids are known: up to and including the arrival hour of this many hours ago.
    """

    def __init__(self, lake: Lake, folder: Path, hours: int) -> None:
        self._lake = lake
        self._folder = folder
        self._span = timedelta(hours=hours)
        self._identity = ""
        self._since = ""
        self._version = -1
        self._live: dict[str, set[str]] = {}
        self._index: dict[str, _Hour] = {}
        self._warned = False

    @property
    def version(self) -> int:
        """The table's version that the last `known` used; -1 before the first."""
        return self._version

    def known(self, message_ids: Sequence[str]) -> npt.NDArray[np.bool_]:
        """Which of the ids are landed in the table as it is now, shape (n,).

        Raises:
            MeterhouseError: the lake cannot be reached.
        """
        self._refresh()
        high, low, order = _in_order(_digests(message_ids))
        found, bits = np.zeros(len(high), np.bool_), _bits(low)
        for hour in self._index.values():
            for run in hour.runs():
                found |= run.find(high, low, bits)
        answer = np.empty_like(found)
        answer[order] = found
        return answer

    def add(self, path: str, message_ids: Sequence[str], arrival_hour: str) -> None:
        """Record that a committed data file (Delta's `path`) holds exactly these ids."""
        if self._version >= 0 and arrival_hour >= self._since:
            high, low, _ = _in_order(_digests(message_ids))
            self._take(arrival_hour, {path}, (high, low))

    def save(self) -> None:
        """Write the cache files. If that fails, a warning is logged once, and only time is lost."""
        for name, hour in self._index.items():
            if hour.dirty:
                self._write(name, hour)

    # -- following the table --------------------------------------------------------------------------------

    def _refresh(self) -> None:
        since = times.arrival_hour(times.now() - self._span)
        table = self._lake.table(_TABLE)
        identity = str(table.metadata().id)
        if identity != self._identity or since < self._since:
            self._open(identity, since)
            # The cache may name files that were committed a moment ago, so the table must be read after it.
            table = self._lake.table(_TABLE)
        elif since > self._since:
            self._since = since
            self._tidy()
        version = table.version()
        if version != self._version:
            touched = self._follow(table, version)
            for name in sorted(self._list(table) if touched is None else touched):
                self._catch_up(name)
            self._version = version

    def _open(self, identity: str, since: str) -> None:
        self._identity, self._since, self._version = identity, since, -1
        self._live, self._index = {}, {}
        self._tidy()
        for path in sorted((self._folder / identity).glob("*.ids")):
            hour = _load(path)
            if hour is not None:
                self._index[path.stem] = hour

    def _tidy(self) -> None:
        """Drop the hours that are too old, and their cache files of any table."""
        for kept in (self._live, self._index):
            for name in [name for name in kept if name < self._since]:
                del kept[name]
        for path in self._folder.glob("*/*"):
            left_behind = path.suffix == ".part" and _age(path) > _PART_SECONDS
            if left_behind or (path.suffix in (".ids", ".part") and path.stem < self._since):
                try:
                    path.unlink(missing_ok=True)
                except OSError as error:
                    self._warn(error)

    def _list(self, table: DeltaTable) -> set[str]:
        """Read the live files from the table's state; return the hours to update, which are all."""
        files = pa.table(table.get_add_actions(flatten=True)).select(["path", "partition.arrival_hour"])
        files = files.filter(pc.greater_equal(files["partition.arrival_hour"], self._since))
        self._live = {}
        for path, name in zip(*(column.to_pylist() for column in files.columns), strict=True):
            self._live.setdefault(name, set()).add(path)
        return self._live.keys() | self._index.keys()

    def _follow(self, table: DeltaTable, version: int) -> set[str] | None:
        """Read the live files from the commits since the last version; return the hours that they touch.

        Returns None if the table's state is needed: at the start, after many commits, or if their log is deleted.
        """
        touched: set[str] = set()
        if not 0 <= self._version < version <= self._version + _MAX_COMMITS:
            return None
        for each in range(self._version + 1, version + 1):
            try:
                content = self._lake.get(f"tables/{_TABLE}/_delta_log/{each:020d}.json")
            except FileNotFoundError:
                return None
            except OSError as error:
                raise self._lake.unreachable(_TABLE, error) from error
            actions: list[dict[str, Any]] = [orjson.loads(line) for line in content.splitlines() if line]
            added = [action["add"] for action in actions if "add" in action]
            # A message that this commit makes known will be acknowledged. So the commit has to be synced to disk first,
            # whichever process wrote it.
            self._lake.wrote(_TABLE, f"_delta_log/{each:020}.json", *(action["path"] for action in added))
            removed = [action["remove"] for action in actions if "remove" in action]
            if any(action.get("partitionValues") is None for action in removed):  # optional in Delta
                return None
            gone, come = self._by_hour(removed), self._by_hour(added)
            same_rows = not any(action["dataChange"] for action in (*added, *removed))
            for name in gone.keys() | come.keys():
                out, into = gone.get(name, set()), come.get(name, set())
                self._live[name] = (self._live.get(name, set()) - out) | into
                hour = self._index.get(name)
                # A seal: the new files hold the same ids as the old ones, which are all in the index.
                if same_rows and out and hour is not None and out <= hour.names:
                    hour.rename(out, into)
            touched |= gone.keys() | come.keys()
        return touched

    def _by_hour(self, actions: list[dict[str, Any]]) -> dict[str, set[str]]:
        hours: dict[str, set[str]] = {}
        for action in actions:
            name = action["partitionValues"]["arrival_hour"]
            if name is not None and name >= self._since:
                hours.setdefault(name, set()).add(action["path"])
        return hours

    def _catch_up(self, name: str) -> None:
        """Update an hour's ids to those of its live files."""
        live = self._live.get(name, set())
        hour = self._index.get(name)
        if hour is not None and not hour.names <= live:
            # It is not known which ids were removed with a file.
            del self._index[name]
            hour = None
        missing = sorted(live - hour.names if hour is not None else live)
        for start in range(0, len(missing), _FILES_AT_ONCE):
            files = missing[start : start + _FILES_AT_ONCE]
            self._take(name, set(files), self._read(files))

    def _read(self, files: list[str]) -> Hashes:
        """The ids of data files."""
        digests = bytearray()
        for path in files:
            ids = self._lake.read_file(_TABLE, path, ["message_id"]).column(0)
            digests += _digests(ids.drop_null().to_pylist())
        high, low, _ = _in_order(digests)
        return high, low

    def _take(self, name: str, files: set[str], found: Hashes) -> None:
        if name not in self._index:
            self.save()  # usually the hour before, which is complete
            self._index[name] = _Hour()
        hour = self._index[name]
        hour.add(files, *found)
        if hour.waiting_ids >= _MAX_WAITING_IDS or hour.waiting_files >= _MAX_WAITING_FILES:
            self._write(name, hour)

    # -- the cache ------------------------------------------------------------------------------------------

    def _write(self, name: str, hour: _Hour) -> None:
        path = self._folder / self._identity / f"{name}.ids"
        hour.waiting_ids = hour.waiting_files = 0
        stored = _load(path)
        if stored is None or stored.names != hour.names:
            try:
                _store(path, hour)
            except OSError as error:
                self._warn(error)
                return
            stored = _load(path, verify=False)
        if stored is not None and stored.names == hour.names:
            self._index[name] = stored

    def _warn(self, error: OSError) -> None:
        if not self._warned:
            log.warning("the index of landed messages is not saved, and will be rebuilt from the lake: %s", error)
        self._warned = True


def _age(path: Path) -> float:
    """Seconds since the file was written; 0 if it is deleted."""
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return 0.0


# -- sorted hashes ------------------------------------------------------------------------------------------


def _digests(message_ids: Sequence[str]) -> bytes:
    return b"".join(map(xxh3_128_digest, map(str.encode, message_ids)))


def _in_order(digests: bytes | bytearray) -> tuple[Words, Words, npt.NDArray[np.intp]]:
    """The halves of digests, sorted by the high halves, and their original indexes."""
    halves = np.frombuffer(digests, ">u8").reshape(-1, 2)
    high = halves[:, 0].astype(np.uint64)
    order = np.argsort(high)
    return high[order], halves[order, 1].astype(np.uint64), order


def _bits(low: Words) -> Words:
    """Up to four bits of a word, chosen by the low half."""
    bits = np.zeros_like(low)
    for place in range(0, 24, 6):
        bits |= np.uint64(1) << (low >> np.uint64(place) & np.uint64(63))
    return bits


def _slots(high: Words, words: int) -> npt.NDArray[np.int64]:
    """The hashes' places in a filter of `words` words."""
    return (high >> np.uint64(65 - words.bit_length())).view(np.int64)


def _empty_filter(count: int) -> Words:
    """A filter for `count` hashes: a power of two of words, 16 to 32 bits a hash."""
    return np.zeros(1 << max(1, (count >> 2).bit_length()), np.uint64)


def _mark(filter: Words, high: Words, low: Words) -> None:
    """Add sorted hashes to the filter."""
    if len(high):
        slots = _slots(high, len(filter))
        starts = np.flatnonzero(np.concatenate([[True], slots[1:] != slots[:-1]]))
        filter[slots[starts]] |= np.bitwise_or.reduceat(_bits(low), starts)


def _run(high: Words, low: Words) -> _Run:
    filter = _empty_filter(len(high))
    _mark(filter, high, low)
    return _Run(high, low, filter)


def _joined(runs: Sequence[_Run]) -> Hashes:
    high, low = (np.concatenate(halves) for halves in zip(*((run.high, run.low) for run in runs), strict=True))
    order = np.argsort(high, kind="stable")
    return high[order], low[order]


def _pieces(runs: list[_Run]) -> Iterator[Hashes]:
    """The sorted hashes of all runs, about a million at a time."""
    parts = 1 << (sum(len(run.high) for run in runs) >> 20).bit_length()
    edges = np.arange(1, parts, dtype=np.uint64) * np.uint64((1 << 64) // parts if parts > 1 else 0)
    cuts = [[0, *np.searchsorted(run.high, edges).tolist(), len(run.high)] for run in runs]
    for part in range(parts):
        yield _joined(
            [
                _Run(run.high[cut[part] : cut[part + 1]], run.low[cut[part] : cut[part + 1]], run.filter)
                for run, cut in zip(runs, cuts, strict=True)
            ]
        )


# -- cache files --------------------------------------------------------------------------------------------
#
# Format: the header, the high halves, the low halves, the filter, the names as a JSON array. The checksum covers the
# header's other fields, and the checksums of the high halves, of the low halves and of the rest.


def _checksum(head: bytes, *parts: xxh3_64) -> int:
    return xxh3_64(head + b"".join(part.digest() for part in parts)).intdigest()


def _store(path: Path, hour: _Hour) -> None:
    """Write an hour's cache file, completely or not at all.

    Raises:
        OSError: it cannot be written.
    """
    runs = hour.runs()
    count = sum(len(run.high) for run in runs)
    filter = _empty_filter(count)
    names = orjson.dumps(sorted(hour.names))
    highs, lows, rest = xxh3_64(), xxh3_64(), xxh3_64()
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.stem}.{uuid.uuid4().hex}.part")
    try:
        with part.open("wb") as file:
            place = _HEADER.size
            for high, low in _pieces(runs) if runs else ():
                for words, start, sums in ((high, place, highs), (low, place + 8 * count, lows)):
                    file.seek(start)
                    file.write(words.data)
                    sums.update(words.data)
                place += high.nbytes
                _mark(filter, high, low)
            file.seek(_HEADER.size + 16 * count)
            for content in (filter.data, names):
                file.write(content)
                rest.update(content)
            head = _HEADER.pack(_MAGIC, count, len(filter), len(names), 0)[:-8]
            file.seek(0)
            file.write(head + struct.pack("<Q", _checksum(head, highs, lows, rest)))
        part.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            part.unlink()
        raise


def _load(path: Path, *, verify: bool = True) -> _Hour | None:
    """The hour of a cache file, memory-mapped; None if the file does not exist or is damaged."""
    try:
        with path.open("rb") as file:
            head = file.read(_HEADER.size)
            if len(head) < _HEADER.size:
                return None
            magic, count, words, names_bytes, checksum = _HEADER.unpack(head)
            low, filter = _HEADER.size + 8 * count, _HEADER.size + 16 * count
            names = filter + 8 * words
            if magic != _MAGIC or os.fstat(file.fileno()).st_size != names + names_bytes:
                return None
            if verify:
                sums = [_sum(file, size) for size in (8 * count, 8 * count, 8 * words + names_bytes)]
                if _checksum(head[:-8], *sums) != checksum:
                    return None
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError:
        return None
    run = _Run(
        np.frombuffer(mapped, np.uint64, count, _HEADER.size),
        np.frombuffer(mapped, np.uint64, count, low),
        np.frombuffer(mapped, np.uint64, words, filter),
    )
    return _Hour(set(orjson.loads(mapped[names:])), run)


def _sum(file: BinaryIO, size: int) -> xxh3_64:
    """The checksum of the file's next bytes. They are read, not mapped: mapped pages count as the process's memory."""
    sums = xxh3_64()
    while size and (content := file.read(min(size, 1 << 20))):
        sums.update(content)
        size -= len(content)
    return sums
