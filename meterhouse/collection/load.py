"""Loads files into the lake as if they were collected: notifications or samples as JSON lines, samples as CSV.

Samples need `timestamp` and `volume`. If a file has no column for the meter at all, its name without its ending is the
meter; it is also the resource of samples without one. Equal samples of a gauge or counter are one point. A delta's id
is made from its content and its position among equal ones. So a file loaded twice counts once. Files are read in
pieces; what does not fit into memory is spilled to disk.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa

from meterhouse import identity, times
from meterhouse.collection.collect import INDEX
from meterhouse.collection.landing import Landing, Tally
from meterhouse.collection.sample_files import BadFile, SampleRows, queue, read_csv, read_json
from meterhouse.errors import MeterhouseError
from meterhouse.progress import Progress, no_progress
from meterhouse.site import Site
from meterhouse.stores.duck import Connection, arrow, one, quoted
from meterhouse.stores.lake_tables import LOADED
from meterhouse.stores.leases import Lease
from meterhouse.stores.point_identity import missing
from meterhouse.stream import Raw, too_long
from meterhouse.stream.files import Damaged, numbered_lines

LINES_AT_ONCE, BYTES_AT_ONCE = 50_000, 32 << 20
"""The lines, or their bytes, that are landed together."""

ROWS_AT_ONCE = 500_000
"""Maximum number of samples that are appended in one commit."""

ENDINGS = (".csv", ".jsonl", ".json", ".ndjson")


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


def load(site: Site, paths: list[Path], *, progress: Progress = no_progress) -> Loaded:
    """Load files (`.jsonl`, `.json`, `.ndjson`, `.csv`, each also `.gz`) into the lake.

    A file that cannot be read or has columns that are not known is refused, and the others are loaded.

    Raises:
        AlreadyRunning: another process is loading files.
        MeterhouseError: the lake or the warehouse cannot be used.
    """
    done = Loaded()
    landing = Landing(site.lake, site.settings.home_path / INDEX, site.settings.redelivery_hours, "load")
    for number, path in enumerate(paths, 1):
        try:
            with site.warehouse.lease("load") as lease:
                site.lake.fence(lease, "samples")
                _load(site, landing, path, done, lease)
            done.files += 1
        except BadFile as fault:
            done.refused.append(fault)
        except OSError as error:
            done.refused.append(MeterhouseError(f"cannot be read: {error.strerror or error}", where=str(path)))
        progress(number, len(paths))
    landing.close()
    return done


def _load(site: Site, landing: Landing, path: Path, done: Loaded, lease: Lease) -> None:
    name, longest = path.name.removesuffix(".gz"), site.settings.message_bytes
    if not path.is_file():
        raise BadFile("is not a file", where=str(path), hint="Give paths of .jsonl or .csv files")
    if not name.endswith(ENDINGS):
        raise BadFile(
            "has an unknown ending", where=str(path), hint=f"Use {', '.join(ENDINGS)}, or one of these with .gz"
        )
    pieces = read_csv(path, longest) if name.endswith(".csv") else read_json(path, longest)
    if pieces is None:
        _load_notifications(landing, path, longest, done)
    else:
        _load_samples(site, landing, path, pieces, done, lease)


def _load_notifications(landing: Landing, path: Path, longest: int, done: Loaded) -> None:
    batch: list[Raw] = []
    size = 0

    def land_batch() -> None:
        nonlocal size
        if batch:
            done.collected.add(landing.land(batch))
            batch.clear()
            size = 0

    try:
        for number, line, length in numbered_lines(path, longest, lambda named: named.open("rb")):
            if body := line.strip() if length <= longest else line:
                batch.append(Raw(body, queue(path, number), too_long(length, longest)))
                size += len(body)
            if len(batch) >= LINES_AT_ONCE or size >= BYTES_AT_ONCE:
                land_batch()
    except Damaged as damage:
        batch.append(Raw(damage.start, queue(path, damage.number), str(damage)))
    land_batch()


def _load_samples(
    site: Site, landing: Landing, path: Path, pieces: Iterator[SampleRows], done: Loaded, lease: Lease
) -> None:
    columns: set[str] = set()
    with site.lake.connect() as duck:
        duck.execute(_GIVEN)
        for piece in pieces:
            columns |= piece.columns
            _take(duck, piece.rows)
            _land_bad(landing, path, duck, piece.letters, done)
        _check_granularity(path, duck)
        stem = path.name.removesuffix(".gz").rpartition(".")[0]
        _fill(
            duck, columns, {"meter": stem, "resource_id": stem, "type": "gauge", "source": site.settings.sample_source}
        )
        _land_bad(landing, path, duck, [], done)
        (good,) = one(duck, "SELECT count(*) FROM given")
        fresh = _append(site, duck, lease) if good else 0
        done.samples += fresh
        done.known += good - fresh


_GIVEN = """
    CREATE TABLE given (
        line BIGINT, raw VARCHAR, reason VARCHAR, timestamp TIMESTAMPTZ, volume DOUBLE, meter VARCHAR,
        resource_id VARCHAR, type VARCHAR, unit VARCHAR, project_id VARCHAR, user_id VARCHAR, source VARCHAR,
        granularity VARCHAR
    )
"""


def _take(duck: Connection, rows: pa.Table) -> None:
    """Add rows to the table `given`. `reason` is what is wrong with a row, or null; `raw` is only kept for it."""
    duck.register("rows", rows)
    texts = ", ".join(
        f"replace({f'lower({name})' if name == 'type' else name}, chr(0), '') AS {name}"
        for name in ("meter", "resource_id", "type", "unit", "project_id", "user_id", "source", "granularity")
    )
    duck.execute(
        f"""
        INSERT INTO given BY NAME SELECT * EXCLUDE (given_timestamp, given_volume) REPLACE (
            CASE WHEN reason IS NOT NULL OR meter IS NULL THEN raw END AS raw
        ) FROM (SELECT *, CASE
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
        ))
        """
    )


def _land_bad(landing: Landing, path: Path, duck: Connection, letters: list[Raw], done: Loaded) -> None:
    """Land letters, and the rows of `given` that have a reason, as dead letters."""
    while True:
        bad = arrow(
            duck,
            f"SELECT line, raw, reason FROM given WHERE reason IS NOT NULL ORDER BY line LIMIT {LINES_AT_ONCE}",
        ).to_pylist()
        letters = [*letters, *(Raw(row["raw"].encode(), queue(path, row["line"]), row["reason"]) for row in bad)]
        if letters:
            done.collected.add(landing.land(letters))
        if not bad:
            return
        duck.execute(f"DELETE FROM given WHERE reason IS NOT NULL AND line <= {bad[-1]['line']}")
        letters = []


def _check_granularity(path: Path, duck: Connection) -> None:
    """Refuse a file in which values over several granularities would be points of one series.

    Raises:
        BadFile: it has several.
    """
    granularities = "SELECT DISTINCT granularity AS g FROM given WHERE granularity IS NOT NULL"
    (found,) = one(duck, f"SELECT list(g ORDER BY g) FROM ({granularities})")
    if found and len(found) > 1:
        shown = ", ".join(each[:20] for each in found[:5])
        raise BadFile(
            f"has values of {len(found)} granularities: {shown}",
            where=str(path),
            hint="Export one of them, such as `gnocchi measures show --granularity 300`",
        )


def _fill(duck: Connection, columns: set[str], defaults: dict[str, str]) -> None:
    """Fill in defaults. If the file has a column for the meter, a row without one is bad."""
    if "meter" in columns:
        duck.execute("UPDATE given SET reason = 'the meter is missing' WHERE meter IS NULL AND reason IS NULL")
    for name, default in defaults.items():
        duck.execute(f"UPDATE given SET {name} = {quoted(default)} WHERE {name} IS NULL AND reason IS NULL")


def _append(site: Site, duck: Connection, lease: Lease) -> int:
    """Append the samples of `given` that are not in the lake yet; return their number."""
    dims = arrow(duck, "SELECT source, meter, type, unit, resource_id, project_id, user_id FROM given GROUP BY ALL")
    ids = [identity.series_id(*row.values()) for row in dims.to_pylist()]
    duck.register("dims", dims.append_column("series_id", pa.array(ids, pa.int64())))
    hours = duck.execute("SELECT DISTINCT epoch_us(timestamp) // 3600000000 FROM given").fetchall()
    spans = times.spans(times.EPOCH + hour * times.HOUR for (hour,) in hours)
    site.lake.view(duck, "samples", site.lake.files("samples", overlapping=("timestamp", spans)))
    same = " AND ".join(f"given.{name} IS NOT DISTINCT FROM dims.{name}" for name in dims.column_names)
    duck.execute(
        "CREATE TABLE numbered AS SELECT series_id, timestamp, volume, "
        "row_number() OVER (PARTITION BY series_id, timestamp, volume ORDER BY line) AS ordinal, "
        "row_number() OVER (PARTITION BY series_id, timestamp ORDER BY line) - 1 AS place "
        f"FROM given JOIN dims ON {same}"
    )
    duck.execute(
        "CREATE TABLE identified (series_id BIGINT, timestamp TIMESTAMPTZ, volume DOUBLE, place BIGINT, "
        "sample_id BIGINT)"
    )
    for numbered in _pieces(duck, "numbered"):
        duck.register("piece", numbered.append_column("sample_id", _content_ids(numbered)))
        duck.execute("INSERT INTO identified SELECT series_id, timestamp, volume, place, sample_id FROM piece")
    # If several points have the same time, the last line counts: it is the one that was recorded last.
    moment = times.now()
    duck.execute(
        "CREATE VIEW offered AS SELECT dims.*, timestamp, volume, sample_id, NULL::BIGINT AS metadata_id, "
        f"TIMESTAMPTZ '{times.text(moment)}' + to_microseconds(place) AS recorded_at, identified.rowid AS _row "
        "FROM identified JOIN dims USING (series_id)"
    )
    duck.execute(
        "CREATE TABLE fresh AS SELECT * EXCLUDE (_row) FROM offered "
        f"SEMI JOIN ({missing('offered', 'samples')}) USING (_row)"
    )
    count = 0
    for fresh in _pieces(duck, "fresh"):
        fresh = fresh.append_column(
            "arrival_hour", pa.repeat(times.arrival_hour(moment), fresh.num_rows)
        ).append_column("origin", pa.repeat(LOADED, fresh.num_rows))
        site.lake.append("samples", fresh, lease=lease)
        count += fresh.num_rows
    return count


def _pieces(duck: Connection, table: str) -> Iterator[pa.Table]:
    """The rows of a table that only ever got rows, in pieces that fit into memory."""
    start = 0
    while (rows := arrow(duck, f"FROM {table} WHERE rowid >= {start} AND rowid < {start + ROWS_AT_ONCE}")).num_rows:
        yield rows
        start += ROWS_AT_ONCE


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
