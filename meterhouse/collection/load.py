"""Loads files into the lake as if they were collected: notifications or samples as JSON lines, samples as CSV.

Samples need `timestamp` and `volume` (or `value`). `meter` (or `metric`) and `resource_id` default to the file's name.
A sample's id is made from its content and its position among equal ones, so that a file loaded twice counts once.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa

from meterhouse import identity, times
from meterhouse.collection.collect import INDEX
from meterhouse.collection.landing import Landing, Tally
from meterhouse.collection.sample_files import SampleRows, holds_samples, read_csv, read_json_lines
from meterhouse.errors import MeterhouseError
from meterhouse.progress import Progress, no_progress
from meterhouse.site import Site
from meterhouse.stores.duck import Connection, arrow, quoted
from meterhouse.stores.leases import Lease
from meterhouse.stream import Raw
from meterhouse.stream.files import Damaged, numbered_lines

LINES_AT_ONCE = 50_000
ENDINGS = (".csv", ".jsonl", ".json", ".ndjson")


@dataclass
class Loaded:
    """What a load did: `samples` are new, `known` ones were loaded before.

    `collected` counts notifications, and lines that are neither. Rows that are not samples become dead letters, with
    file, line and reason.
    """

    files: int = 0
    samples: int = 0
    known: int = 0
    collected: Tally = field(default_factory=Tally)


def load(site: Site, paths: list[Path], *, progress: Progress = no_progress) -> Loaded:
    """Load files (`.jsonl`, `.json`, `.csv`, each also `.gz`) into the lake.

    Raises:
        MeterhouseError: a file cannot be read or lacks columns; the files before it are loaded.
        AlreadyRunning: another process is loading files.
    """
    done = Loaded()
    for path in paths:
        if not path.is_file():
            raise MeterhouseError("is not a file", where=str(path), hint="Give paths of .jsonl or .csv files")
        if not path.name.removesuffix(".gz").endswith(ENDINGS):
            raise MeterhouseError(
                "has an unknown ending", where=str(path), hint=f"Use {', '.join(ENDINGS)}, or one of these with .gz"
            )
    landing = Landing(site.lake, site.settings.home_path / INDEX, site.settings.redelivery_hours, "load")
    for path in paths:
        try:
            with site.warehouse.lease("load") as lease:
                site.lake.fence(lease, "samples")
                if path.name.removesuffix(".gz").endswith(".csv"):
                    _load_samples(site, landing, path, read_csv(path), done, lease)
                elif holds_samples(path):
                    _load_samples(site, landing, path, read_json_lines(path), done, lease)
                else:
                    _load_notifications(landing, path, done)
        except OSError as error:
            raise MeterhouseError(f"cannot be read: {error.strerror or error}", where=str(path)) from None
        done.files += 1
        progress(done.files, len(paths))
    landing.close()
    return done


def _stem(path: Path) -> str:
    return path.name.removesuffix(".gz").rpartition(".")[0]


def _load_notifications(landing: Landing, path: Path, done: Loaded) -> None:
    batch: list[Raw] = []

    def land_batch() -> None:
        if batch:
            done.collected.add(landing.land(batch))
            batch.clear()

    try:
        for number, line in numbered_lines(path):
            if body := line.strip():
                batch.append(Raw(body, f"load:{path.name}:{number}"))
            if len(batch) >= LINES_AT_ONCE:
                land_batch()
    except Damaged as damage:
        batch.append(Raw(b"", f"load:{path.name}:{damage.number}", str(damage)))
    land_batch()


def _load_samples(site: Site, landing: Landing, path: Path, rows: SampleRows, done: Loaded, lease: Lease) -> None:
    with site.lake.connect() as duck:
        _read_columns(duck, rows.rows, _stem(path), site.settings.sample_source)
        bad = arrow(duck, "SELECT line, raw, reason FROM given WHERE reason IS NOT NULL ORDER BY line").to_pylist()
        letters = [Raw(row["raw"].encode(), f"load:{path.name}:{row['line']}", row["reason"]) for row in bad]
        if rows.letters or letters:
            done.collected.add(landing.land([*rows.letters, *letters]))
        good = rows.rows.num_rows - len(letters)
        fresh = _append(site, duck, lease) if good else 0
        done.samples += fresh
        done.known += good - fresh


def _read_columns(duck: Connection, rows: pa.Table, stem: str, source: str) -> None:
    """Create the table `given` of samples with the lake's columns; `reason` is what is wrong with a row, or null."""
    defaults = {"meter": stem, "resource_id": stem, "type": "gauge", "source": source}
    texts = ", ".join(
        f"coalesce(replace({name}, chr(0), ''), {quoted(defaults[name]) if name in defaults else 'NULL'}) AS {name}"
        for name in ("meter", "resource_id", "type", "unit", "project_id", "user_id", "source")
    )
    duck.register("rows", rows)
    duck.execute(
        f"""
        CREATE TEMP TABLE given AS SELECT *, CASE
            WHEN given_timestamp IS NULL THEN 'the timestamp is missing'
            WHEN timestamp IS NULL THEN 'the timestamp is not ISO 8601'
            WHEN timestamp < '1970-01-01' OR timestamp >= '2262-01-01' THEN 'the timestamp is outside 1970 to 2261'
            WHEN given_volume IS NULL THEN 'the volume is missing'
            WHEN volume IS NULL THEN 'the volume is no number'
            WHEN type NOT IN ('gauge', 'delta', 'cumulative') THEN 'the type is none of gauge, delta, cumulative'
        END AS reason
        FROM (
            SELECT line, raw, timestamp AS given_timestamp, volume AS given_volume,
                -- DuckDB also accepts words such as epoch, and names of time zones
                CASE WHEN NOT regexp_matches(timestamp, '[A-SU-Ya-su-y]') THEN try_cast(timestamp AS TIMESTAMPTZ) END
                    AS timestamp,
                try_cast(volume AS DOUBLE) AS volume, {texts}
            FROM rows
        )
        """
    )


def _append(site: Site, duck: Connection, lease: Lease) -> int:
    """Append the samples of `given` that are not in the lake yet; return their number."""
    dims = arrow(
        duck,
        "SELECT source, meter, type, unit, resource_id, project_id, user_id FROM given "
        "WHERE reason IS NULL GROUP BY ALL",
    )
    ids = [identity.series_id(*row.values()) for row in dims.to_pylist()]
    duck.register("dims", dims.append_column("series_id", pa.array(ids, pa.int64())))
    hours = duck.execute("SELECT DISTINCT epoch_us(timestamp) // 3600000000 FROM given WHERE reason IS NULL").fetchall()
    spans = times.spans(times.EPOCH + hour * times.HOUR for (hour,) in hours)
    site.lake.view(duck, "samples", site.lake.files("samples", overlapping=("timestamp", spans)))
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
    # If several points have the same time, the last line counts: it is the one that was recorded last.
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
        site.lake.append("samples", fresh, lease=lease)
    return count


def _content_ids(numbered: pa.Table) -> pa.Array:
    """64-bit ids from (series_id, timestamp, volume, ordinal). Equal content has equal ids on every machine."""
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
