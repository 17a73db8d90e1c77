"""Loads files into the lake as if they were collected: notifications, or samples in one of several formats.

`file_formats` says which; each has a reader of its own.

Samples need `timestamp` and `volume`. If a file has no column for the meter at all, its name without its ending is the
meter; it is also the resource of samples without one. Equal samples of a gauge or counter are one point. A delta's id
is made from its content and its position among equal ones. So a file loaded twice counts once.

A file is read to its end before any of its samples is appended. Parts of it are read at the same time, and then its
points are put in order and written, some event hours at a time. Memory is bounded, apart from what the series take.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import BinaryIO, Final

from meterhouse import times
from meterhouse.collection.collect import INDEX
from meterhouse.collection.csv_files import read_csv
from meterhouse.collection.file_formats import Format, format_of
from meterhouse.collection.gnocchi_files import Listings, read_gnocchi
from meterhouse.collection.json_files import read_json
from meterhouse.collection.judged_rows import METER_MISSING, Judged, judge
from meterhouse.collection.landing import Landing, Tally
from meterhouse.collection.loaded_points import Bucket, LoadedPoints, Points
from meterhouse.collection.loaded_series import LoadedSeries, OrderedSeries
from meterhouse.collection.new_points import new_points
from meterhouse.collection.parquet_files import read_parquet
from meterhouse.collection.prometheus_files import read_prometheus
from meterhouse.collection.sample_rows import BadFile, Task, queue
from meterhouse.errors import Conflict, MeterhouseError
from meterhouse.in_order import in_order, processors
from meterhouse.progress import Progress, no_progress
from meterhouse.site import Site
from meterhouse.stores import lake_erasures
from meterhouse.stores.lake_cuts import cuts, divided
from meterhouse.stores.lake_files import DataFile
from meterhouse.stores.leases import Lease
from meterhouse.stream import Raw, too_long
from meterhouse.stream.files import Damaged, numbered_lines

LINES_AT_ONCE, BYTES_AT_ONCE = 50_000, 32 << 20
"""The lines, or their bytes, that are landed together."""

POINTS_AT_ONCE: Final = 1 << 20
"""About how many points are put in order together, and are in one file of the lake."""

COMMIT_POINTS: Final = 2_000_000
"""About how many points are appended in one commit."""

READING: Final = 0.6
"""About which share of the time of a load is reading."""

Parts = Callable[[], Iterable[Task]]
"""Begins to read a file: its parts in order."""


@dataclass
class Loaded:
    """What a load did: `samples` are new, `known` ones are in the lake already, or twice in the file.

    `collected` counts notifications, and lines that are neither. Rows that are not samples become dead letters, with
    file, line and reason. `refused` has why files could not be loaded; lines of such a file may be dead letters,
    but none of its samples is in the lake.
    """

    files: int = 0
    samples: int = 0
    known: int = 0
    collected: Tally = field(default_factory=Tally)
    refused: list[MeterhouseError] = field(default_factory=list)

    @property
    def messages(self) -> int:
        """The lines and rows that were read: samples, notifications and dead letters."""
        return self.samples + self.known + self.collected.messages


@dataclass(frozen=True)
class Names:
    """Whose the points are of files that do not say so in Meterhouse's words.

    Attributes:
        listings: of Gnocchi's metrics and resources.
        labels: by dimension, the labels of Prometheus that it is made of.
    """

    listings: Listings = field(default_factory=Listings)
    labels: Mapping[str, Sequence[str]] = field(default_factory=dict)


def load(site: Site, paths: list[Path], *, names: Names | None = None, progress: Progress = no_progress) -> Loaded:
    """Load files into the lake; see `file_formats`. A file that cannot be used is refused, and the others are loaded.

    Args:
        site: the site.
        paths: the files.
        names: whose the points of Gnocchi's and Prometheus's exports are.
        progress: gets how many bytes of the files are done, and how many there are. Reading is READING of a file.

    Raises:
        AlreadyRunning: another process is loading files.
        MeterhouseError: the lake or the warehouse cannot be used.
    """
    done, reached = Loaded(), _Reached(progress, [_size(path) for path in paths])
    folder, secret = site.settings.home_path / INDEX, site.settings.telemetry_secret
    landing = Landing(site.lake, folder, site.settings.redelivery_hours, "load", secret)
    for path in paths:
        try:
            with site.warehouse.lease("load") as lease:
                site.lake.fence(lease, "samples")
                _load(site, landing, path, names or Names(), done, lease, reached)
            done.files += 1
        except BadFile as fault:
            done.refused.append(fault)
        except OSError as error:
            done.refused.append(MeterhouseError(f"cannot be read: {error.strerror or error}", where=str(path)))
        reached.end()
    landing.close()
    return done


@dataclass
class _Reached:
    """How far a load is.

    Attributes:
        progress: what is told.
        sizes: the bytes of each file.
        file: the number of the file that is being loaded.
    """

    progress: Progress
    sizes: list[int]
    file: int = 0

    def read(self, share: float) -> None:
        """Tell what share of the file is read, from 0 to 1."""
        self._tell(share * READING)

    def written(self, share: float) -> None:
        """Tell what share of the file's points is put in order and written."""
        self._tell(READING + share * (1 - READING))

    def end(self) -> None:
        """Tell that the file is done, and begin the next."""
        self.file += 1
        self._tell(0.0)

    def _tell(self, share: float) -> None:
        now = int(self.sizes[self.file] * share) if self.file < len(self.sizes) else 0
        self.progress(sum(self.sizes[: self.file]) + now, sum(self.sizes))


def _size(path: Path) -> int:
    """The bytes of a file; 0 if it cannot be known."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _load(
    site: Site, landing: Landing, path: Path, names: Names, done: Loaded, lease: Lease, reached: _Reached
) -> None:
    if not path.is_file():
        raise BadFile("is not a file", where=str(path), hint="Give paths of files of samples or notifications")
    longest, spill = site.settings.message_bytes, site.lake.spill
    stem = path.name.removesuffix(".gz").rpartition(".")[0] or path.name
    meters_vary = False
    parts: Parts
    match format_of(path):
        case Format.CSV:
            parts = partial(read_csv, path, longest, reached.read)
        case Format.PARQUET:
            parts = partial(read_parquet, path, reached.read)
        case Format.PROMETHEUS:
            parts = partial(read_prometheus, path, spill, names.labels, stem, reached.read)
        case Format.GNOCCHI:
            parts = partial(read_gnocchi, path, spill, names.listings, reached.read)
        case Format.JSON:
            found = read_json(path, longest, reached.read)
            if found is None:
                _load_notifications(landing, path, longest, done, reached)
                return
            parts, meters_vary = found, True
    listed = {name: text for name, text in (names.listings.of_metric(stem) or {}).items() if text}
    usual = {"meter": stem, "resource_id": stem, "type": "gauge", "source": site.settings.sample_source}
    _load_samples(site, landing, path, parts, {**usual, **listed}, done, lease, reached, meters_vary=meters_vary)


def _load_notifications(landing: Landing, path: Path, longest: int, done: Loaded, reached: _Reached) -> None:
    batch: list[Raw] = []
    size = 0
    opened: list[BinaryIO] = []

    def open_file(named: Path) -> BinaryIO:
        opened.append(named.open("rb"))
        return opened[0]

    def land_batch() -> None:
        nonlocal size
        if batch:
            done.collected.add(landing.land(batch))
            batch.clear()
            size = 0
        if opened and not opened[0].closed:
            reached.read(opened[0].tell() / max(_size(path), 1))

    try:
        for number, line, length in numbered_lines(path, longest, open_file):
            if body := line.strip() if length <= longest else line:
                batch.append(Raw(body, queue(path, number), too_long(length, longest)))
                size += len(body)
            if len(batch) >= LINES_AT_ONCE or size >= BYTES_AT_ONCE:
                land_batch()
    except Damaged as damage:
        batch.append(Raw(damage.start, queue(path, damage.number), str(damage)))
    land_batch()


def _load_samples(
    site: Site,
    landing: Landing,
    path: Path,
    parts: Parts,
    defaults: dict[str, str],
    done: Loaded,
    lease: Lease,
    reached: _Reached,
    *,
    meters_vary: bool,
) -> None:
    """Load the samples of a file.

    Args:
        site: the site.
        landing: for what is not a sample.
        path: the file.
        parts: begins to read the file.
        defaults: by dimension, the value of samples that have none; that of the meter only if the file names no meters.
        done: the figures to add to.
        lease: that of this step.
        reached: is told how far the load is.
        meters_vary: whether only the whole file tells if it names meters.
    """
    meter = {"meter": defaults.pop("meter")}
    with ThreadPoolExecutor(processors(), "load") as pool, closing(_Letters(landing, done)) as letters:
        needed = False if meters_vary else None
        found = _read(site, pool, path, parts, defaults, letters.add, meter_needed=needed)
        if meters_vary and "meter" in found.columns and found.series.lack("meter"):
            found.points.close()
            found = _read(site, pool, path, parts, defaults, letters.add_without_meter, meter_needed=True)
        with closing(found.points) as points:
            _check_granularity(path, found.granularities)
            erased = lake_erasures.erased_users(site.lake)
            fresh = _append(site, pool, points, found.series.ordered(meter, erased), lease, reached)
            done.samples += fresh
            done.known += len(points) - fresh


@dataclass
class _Found:
    """What a file has."""

    series: LoadedSeries
    points: LoadedPoints
    columns: set[str] = field(default_factory=set)
    granularities: set[str] = field(default_factory=set)


def _read(
    site: Site,
    pool: ThreadPoolExecutor,
    path: Path,
    parts: Parts,
    defaults: dict[str, str],
    reject: Callable[[list[Raw]], None],
    *,
    meter_needed: bool | None,
) -> _Found:
    """Read a file; `meter_needed` says whether a row without a meter is no sample: None if the file names meters."""
    found = _Found(LoadedSeries(defaults), LoadedPoints(site.lake.spill))
    try:
        for judged in in_order(pool, (partial(_judged, part, path, meter_needed) for part in parts())):
            for piece in judged:
                found.columns |= piece.columns
                found.granularities |= piece.granularities
                reject(piece.letters)
                found.points.add(Points(found.series.numbers(piece), piece.micros, piece.volumes))
    except BaseException:
        found.points.close()
        raise
    return found


def _judged(part: Task, path: Path, meter_needed: bool | None) -> list[Judged]:
    return [
        judge(piece, path, meter_needed="meter" in piece.columns if meter_needed is None else meter_needed)
        for piece in part()
    ]


class _Letters:
    """Lands dead letters, many at once."""

    def __init__(self, landing: Landing, done: Loaded) -> None:
        self._landing, self._done = landing, done
        self._held: list[Raw] = []
        self._size = 0

    def add(self, letters: list[Raw]) -> None:
        """Add what is not a sample."""
        for start in range(0, len(letters), LINES_AT_ONCE):
            self._held += letters[start : start + LINES_AT_ONCE]
            self._size += sum(len(letter.body) for letter in letters[start : start + LINES_AT_ONCE])
            if len(self._held) >= LINES_AT_ONCE or self._size >= BYTES_AT_ONCE:
                self.close()

    def add_without_meter(self, letters: list[Raw]) -> None:
        """Add those that lack a meter; the others were added before."""
        self.add([letter for letter in letters if letter.fault == METER_MISSING])

    def close(self) -> None:
        """Land what was added."""
        if self._held:
            self._done.collected.add(self._landing.land(self._held))
            self._held, self._size = [], 0


def _check_granularity(path: Path, found: set[str]) -> None:
    """Refuse a file in which values over several granularities would be points of one series.

    Raises:
        BadFile: it has several.
    """
    if len(found) > 1:
        shown = ", ".join(each[:20] for each in sorted(found)[:5])
        raise BadFile(
            f"has values of {len(found)} granularities: {shown}",
            where=str(path),
            hint="Export one of them, such as `gnocchi measures show --granularity 300`",
        )


def _append(
    site: Site,
    pool: ThreadPoolExecutor,
    points: LoadedPoints,
    series: OrderedSeries,
    lease: Lease,
    reached: _Reached,
) -> int:
    """Append the points that are not in the lake yet; return their number."""
    lake, total = site.lake, 0
    buckets = [
        (bucket, lake.files("samples", overlapping=("timestamp", [bucket.span])))
        for bucket in points.buckets(POINTS_AT_ONCE)
    ]
    written: dict[str, tuple[DataFile, int]] = {}  # and not committed yet

    def write(bucket: Bucket, files: list[str]) -> list[str]:
        moment = times.now()
        hour = times.arrival_hour(moment)
        fresh = new_points(lake, points.of(bucket), series, moment, files)
        made = []
        for part in divided("samples", fresh, hour) if cuts(hour, points.hours(bucket)) else [fresh]:
            if len(part):
                file = lake.write_part("samples", {"arrival_hour": hour}, part, in_order=True)
                written[file.path] = file, len(part)
                made.append(file.path)
        return made

    def commit(paths: list[str]) -> int:
        files = [written.pop(path) for path in paths]
        rows = sum(count for _, count in files)
        try:
            lake.commit("samples", [file for file, _ in files], rows, transactions={}, lease=lease)
        except Conflict:
            lake.discard("samples", [file for file, _ in files])
            raise
        return rows

    ready: list[str] = []
    try:
        for number, made in enumerate(in_order(pool, (partial(write, *bucket) for bucket in buckets)), 1):
            reached.written(number / len(buckets))
            ready += made
            if sum(written[path][1] for path in ready) >= COMMIT_POINTS:
                total += commit(ready)
                ready = []
        return total + (commit(ready) if ready else 0)
    finally:
        lake.discard("samples", [file for file, _ in written.values()])
