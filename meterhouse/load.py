"""Loading of files: notifications or samples as JSON lines, samples as CSV, into the lake as if collected.

Samples need `timestamp` and `volume` (or `value`). `meter` (or `metric`) and `resource_id` default to the file's name.
A sample's id is made from its content and its place among equal ones, so that a file loaded twice counts once.
"""

import gzip
import io
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.csv as arrow_csv
import pyarrow.json as arrow_json

from meterhouse import identity, times
from meterhouse.collect import Collected, land
from meterhouse.duck import Connection, arrow, one, quoted
from meterhouse.errors import MeterhouseError
from meterhouse.progress import Progress, quiet
from meterhouse.site import Site
from meterhouse.stream import Raw

COLUMNS = ("timestamp", "meter", "resource_id", "volume", "type", "unit", "project_id", "user_id", "source")
ALIASES = {
    "metric": "meter",
    "value": "volume",
    "counter_name": "meter",
    "counter_volume": "volume",
    "counter_type": "type",
    "counter_unit": "unit",
}
LINES_AT_ONCE = 50_000


@dataclass
class Loaded:
    """What a load did. Rows that are no samples are in `dead_letters`, with file, line and reason."""

    files: int = 0
    samples: int = 0
    known: int = 0
    collected: Collected = field(default_factory=Collected)


def load(site: Site, paths: list[Path], *, progress: Progress = quiet) -> Loaded:
    """Load files (`.jsonl`, `.json`, `.csv`, each also `.gz`) into the lake.

    Raises:
        MeterhouseError: a file cannot be read or has not the columns; files before it are loaded.
        Busy: another process collects.
    """
    done = Loaded()
    for path in paths:
        if not path.is_file():
            raise MeterhouseError("is no file", where=str(path), hint="Give paths of .jsonl or .csv files")
    for path in paths:
        name = path.name.removesuffix(".gz")
        try:
            with site.warehouse.lease("collect"):
                if name.endswith(".csv"):
                    _load_csv(site, path, done)
                elif name.endswith((".jsonl", ".json", ".ndjson")):
                    _load_lines(site, path, done)
                else:
                    raise MeterhouseError(
                        "has an unknown ending", where=str(path), hint="Known: .jsonl, .json, .csv, and these with .gz"
                    )
        except (OSError, EOFError, zlib.error) as error:
            raise MeterhouseError(f"cannot be read: {error}", where=str(path)) from None
        done.files += 1
        progress(done.files, len(paths))
    return done


def _open(path: Path) -> IO[bytes]:
    return gzip.open(path, "rb") if path.name.endswith(".gz") else path.open("rb")  # type: ignore[return-value]


def _stem(path: Path) -> str:
    return path.name.removesuffix(".gz").rpartition(".")[0]


def _load_lines(site: Site, path: Path, done: Loaded) -> None:
    """A file of JSON lines: samples where its first object has a volume, else notifications."""
    with _open(path) as handle:
        lines = (line for line in enumerate(handle, 1) if line[1].strip())
        first = next(lines, None)
        if first is None:
            return
        if _is_sample(first[1]):
            _load_json_samples(site, path, list(_chain(first, lines)), done)
            return
        batch: list[Raw] = []
        for number, line in _chain(first, lines):
            batch.append(Raw(line.strip(), f"load:{path.name}:{number}"))
            if len(batch) >= LINES_AT_ONCE:
                land(site.lake, batch, site.settings.redelivery_hours, "load", done.collected)
                batch = []
        if batch:
            land(site.lake, batch, site.settings.redelivery_hours, "load", done.collected)


def _load_json_samples(site: Site, path: Path, lines: list[tuple[int, bytes]], done: Loaded) -> None:
    numbers = [number for number, _ in lines]
    try:
        rows = arrow_json.read_json(io.BytesIO(b"".join(line for _, line in lines)))
    except pa.ArrowInvalid:
        # A line that is no JSON, or a column of two types: line by line it shows which.
        good, numbers, letters = [], [], []
        for number, line in lines:
            try:
                row = orjson.loads(line)
                if not isinstance(row, dict):
                    raise ValueError(f"not a JSON object but {type(row).__name__}")
            except ValueError as error:
                letters.append(Raw(line.strip(), f"load:{path.name}:{number}", f"not JSON: {error}"))
                continue
            numbers.append(number)
            good.append({name: None if value is None else str(value) for name, value in row.items()})
        _bury(site, letters, done)
        rows = pa.Table.from_pylist(good)
    _load_samples(site, path, rows, numbers, done)


def _bury(site: Site, letters: list[Raw], done: Loaded) -> None:
    if letters:
        land(site.lake, letters, site.settings.redelivery_hours, "load", done.collected)


def _chain(first: tuple[int, bytes], rest: Iterator[tuple[int, bytes]]) -> Iterator[tuple[int, bytes]]:
    yield first
    yield from rest


def _is_sample(line: bytes) -> bool:
    try:
        found = orjson.loads(line)
    except ValueError:
        return False
    return (
        isinstance(found, dict)
        and "event_type" not in found
        and bool({"volume", "value", "counter_volume"} & set(found))
    )


def _load_csv(site: Site, path: Path, done: Loaded) -> None:
    ragged: dict[int, Raw] = {}

    def pass_over(row: arrow_csv.InvalidRow) -> str:
        reason = f"{row.actual_columns} columns where the header has {row.expected_columns}"
        ragged[row.number] = Raw(row.text.encode(), f"load:{path.name}:{row.number}", reason)
        return "skip"

    with _open(path) as handle:
        try:
            # Everything as text first: a column of one odd value must not decide about the whole file.
            header = handle.readline().decode("utf-8-sig").strip()
            names = [name.strip() for name in header.split(",")]
            content = handle.read() or b"\n" * 2  # Arrow takes an empty content for an error
            rows = arrow_csv.read_csv(
                io.BytesIO(header.encode() + b"\n" + content),
                arrow_csv.ReadOptions(column_names=names, skip_rows=1, use_threads=False),  # which numbers the rows
                arrow_csv.ParseOptions(invalid_row_handler=pass_over, ignore_empty_lines=False),
                convert_options=arrow_csv.ConvertOptions(
                    column_types=dict.fromkeys(names, pa.string()),
                    strings_can_be_null=True,
                    null_values=[""],
                    quoted_strings_can_be_null=False,
                ),
            )
        except (pa.ArrowInvalid, UnicodeDecodeError) as error:
            raise MeterhouseError(
                f"is no CSV: {error}", where=str(path), hint=f"Columns: {','.join(COLUMNS)}"
            ) from None
    _bury(site, list(ragged.values()), done)
    numbers = [number for number in range(2, 2 + rows.num_rows + len(ragged)) if number not in ragged]
    _load_samples(site, path, rows, numbers, done)


def _load_samples(site: Site, path: Path, rows: pa.Table, numbers: list[int], done: Loaded) -> None:
    """Load samples as a table of texts; `numbers` are the rows' lines in the file."""
    rows = rows.rename_columns([ALIASES.get(name, name) for name in rows.column_names])
    twice = sorted(name for name, count in Counter(rows.column_names).items() if count > 1 and name in COLUMNS)
    if twice:
        raise MeterhouseError(f"has two columns for {', '.join(twice)}", where=f"{path}:1", hint="Keep one of them")
    missing = [name for name in ("timestamp", "volume") if name not in rows.column_names]
    if missing:
        raise MeterhouseError(
            f"has no column {' and no column '.join(missing)}", where=f"{path}:1", hint=f"Columns: {','.join(COLUMNS)}"
        )
    if rows.num_rows == 0:
        return
    with site.lake.connect() as duck:
        rows = rows.select([name for name in rows.column_names if name in COLUMNS])
        numbered = rows.append_column("line", pa.array(numbers, pa.int64()))
        _read_columns(duck, numbered, _stem(path), site.settings.sample_source)
        bad = arrow(duck, "SELECT line, raw, reason FROM given WHERE reason IS NOT NULL ORDER BY line").to_pylist()
        letters = [Raw(row["raw"].encode(), f"load:{path.name}:{row['line']}", row["reason"]) for row in bad]
        _bury(site, letters, done)
        (good,) = one(duck, "SELECT count(*) FROM given WHERE reason IS NULL")
        done.samples += good
        done.known += good - (_append(site, duck) if good else 0)


def _read_columns(duck: Connection, rows: pa.Table, stem: str, source: str) -> None:
    """Make the table `given` of samples in the lake's terms; `reason` says what is wrong with a row, else null."""
    defaults = {"meter": stem, "resource_id": stem, "type": "gauge", "source": source}

    def column(name: str) -> str:
        found = f"CAST({name} AS VARCHAR)" if name in rows.column_names else "NULL::VARCHAR"
        found = f"replace({found}, chr(0), '')"
        if name in defaults:
            duck.execute(f"SET VARIABLE default_{name} = {quoted(defaults[name])}")
            return f"coalesce({found}, getvariable('default_{name}')) AS {name}"
        return f"{found} AS {name}"

    duck.register("rows", rows)
    raw = ", ".join(f"CAST({name} AS VARCHAR)" for name in rows.column_names if name != "line")
    texts = ", ".join(column(name) for name in COLUMNS if name not in ("timestamp", "volume"))
    duck.execute(
        f"""
        CREATE TEMP TABLE given AS SELECT *, CASE
            WHEN timestamp IS NULL THEN 'the timestamp is not ISO 8601'
            WHEN timestamp < '1970-01-01' OR timestamp >= '2262-01-01' THEN 'the timestamp is outside 1970 to 2261'
            WHEN volume IS NULL THEN 'the volume is no number'
            WHEN type NOT IN ('gauge', 'delta', 'cumulative') THEN 'the type is none of gauge, delta, cumulative'
        END AS reason
        FROM (
            SELECT line, concat_ws(',', {raw}) AS raw,
                try_cast(CAST(timestamp AS VARCHAR) AS TIMESTAMPTZ) AS timestamp,
                try_cast(CAST(volume AS VARCHAR) AS DOUBLE) AS volume, {texts}
            FROM rows
        )
        """
    )
    duck.execute("DELETE FROM given WHERE raw = ''")  # blank lines


def _append(site: Site, duck: Connection) -> int:
    """Append the samples of `given` that are not in the lake yet; return how many."""
    dims = arrow(
        duck,
        "SELECT source, meter, type, unit, resource_id, project_id, user_id FROM given "
        "WHERE reason IS NULL GROUP BY ALL",
    )
    ids = [identity.series_id(*row.values()) for row in dims.to_pylist()]
    duck.register("dims", dims.append_column("series_id", pa.array(ids, pa.int64())))
    first, last = one(duck, "SELECT min(timestamp), max(timestamp) FROM given WHERE reason IS NULL")
    site.lake.view(duck, "samples", site.lake.files("samples", between=("timestamp", first, last + times.HOUR)))
    same = " AND ".join(f"given.{name} IS NOT DISTINCT FROM dims.{name}" for name in dims.column_names)
    numbered = arrow(
        duck,
        "SELECT dims.*, timestamp, volume, "
        "row_number() OVER (PARTITION BY dims.series_id, timestamp, volume ORDER BY line) AS ordinal, "
        "row_number() OVER (PARTITION BY dims.series_id, timestamp ORDER BY line) - 1 AS place "
        f"FROM given JOIN dims ON {same} WHERE reason IS NULL",
    )
    duck.register("numbered", numbered.append_column("sample_id", _content_ids(numbered)))
    moment = times.now()
    # Of several points of one time the last line counts: it is the one that was recorded last.
    fresh = arrow(
        duck,
        "SELECT * EXCLUDE (ordinal, place), "
        f"TIMESTAMPTZ '{times.text(moment)}' + to_microseconds(place) AS recorded_at "
        "FROM numbered ANTI JOIN samples USING (series_id, timestamp, sample_id)",
    )
    count = int(fresh.num_rows)
    if count:
        fresh = fresh.append_column("arrival_hour", pa.array([times.arrival_hour(moment)] * count)).append_column(
            "metadata_id", pa.nulls(count, pa.int64())
        )
        site.lake.append("samples", fresh)
    return count


def _content_ids(numbered: pa.Table) -> pa.Array:
    """64-bit ids from (series_id, timestamp, volume, ordinal): the same content has the same ids on every machine."""
    mixed = numbered["series_id"].to_numpy().astype(np.uint64)
    parts = (
        numbered["timestamp"].cast(pa.int64()).to_numpy().astype(np.uint64),
        numbered["volume"].to_numpy().astype(np.float64).view(np.uint64),
        numbered["ordinal"].to_numpy().astype(np.uint64),
    )
    for part in parts:  # splitmix64's finalizer, after each part
        mixed = mixed ^ part
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        mixed = mixed ^ (mixed >> np.uint64(31))
    return pa.array(mixed.view(np.int64))
