"""Loading, done plainly: a file line by line, its rows in one SQL query, its points in another. For comparison only."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from meterhouse.collection.csv_lines import LineSource, header, rows_of_lines
from meterhouse.stores import duck
from meterhouse.stores.point_identity import identified
from meterhouse.stream.files import numbered_lines

TEXTS = ("meter", "resource_id", "type", "unit", "project_id", "user_id", "source", "granularity")

JUDGED = """
    SELECT line, raw, epoch_us(timestamp) AS micros, volume, {texts}, CASE
        WHEN given_timestamp IS NULL THEN 'the timestamp is missing'
        WHEN timestamp IS NULL THEN 'the timestamp is not ISO 8601'
        WHEN timestamp < '1970-01-01' OR timestamp >= '2262-01-01' THEN 'the timestamp is outside 1970 to 2261'
        WHEN given_volume IS NULL THEN 'the volume is missing'
        WHEN volume IS NULL THEN 'the volume is no number'
        WHEN type NOT IN ('gauge', 'delta', 'cumulative') THEN 'the type is none of gauge, delta, cumulative'
        WHEN {meter_needed} AND meter IS NULL THEN 'the meter is missing'
    END AS reason
    FROM (
        SELECT line, raw, timestamp AS given_timestamp, volume AS given_volume,
            CASE WHEN NOT regexp_matches(timestamp, '[A-SU-Ya-su-y]') THEN try_cast(
                regexp_replace(timestamp, '^([-0-9]{{10}}[ T]\\d\\d)(Z|[-+].*)?$', '\\1:00\\2') AS TIMESTAMPTZ
            ) END AS timestamp,
            try_cast(volume AS DOUBLE) AS volume, {cleaned}
        FROM rows
    )
    ORDER BY line
"""


def read(path: Path, longest: int) -> tuple[list[tuple[Any, ...]], set[tuple[int, str, bytes]]]:
    """The samples of a CSV file, in order: µs, volume, and TEXTS; and its dead letters: line, reason, text."""
    source = LineSource(path, longest, numbered_lines(path, longest, lambda named: named.open("rb")))
    separator, names = header(path, source)
    samples: list[tuple[Any, ...]] = []
    letters = set()
    for piece in rows_of_lines(source, separator, names) if names else ():
        letters |= {(int(raw.queue.rpartition(":")[2]), raw.fault, raw.body) for raw in piece.letters}
        rows = piece.rows
        for name in ("timestamp", "volume", *TEXTS):
            if name not in rows.column_names:
                rows = rows.append_column(name, pa.nulls(len(rows), pa.string()))
            trimmed = pc.utf8_trim_whitespace(rows[name])
            rows = rows.set_column(
                rows.column_names.index(name), name, pc.if_else(pc.equal(trimmed, ""), None, trimmed)
            )
        places = range(len(rows))
        rows = rows.append_column("line", pa.array([piece.line_of(place) for place in places], pa.int64()))
        rows = rows.append_column("raw", pa.array([piece.text(place) for place in places], pa.binary()))
        query = JUDGED.format(
            texts=", ".join(TEXTS),
            meter_needed=str("meter" in names),
            cleaned=", ".join(
                f"replace({f'lower({name})' if name == 'type' else name}, chr(0), '') AS {name}" for name in TEXTS
            ),
        )
        with duck.SINGLE.connect() as connection:
            connection.register("rows", rows)
            for row in duck.arrow(connection, query).to_pylist():
                if row["reason"]:
                    letters.add((row["line"], row["reason"], row["raw"]))
                else:
                    samples.append((row["micros"], row["volume"], *(row[name] for name in TEXTS)))
    return samples, letters


POINTS = """
    WITH numbered AS (
        SELECT *, row_number() OVER (PARTITION BY series, micros, volume + 0.0 ORDER BY line) AS ordinal,
            row_number() OVER (PARTITION BY series, micros ORDER BY line) - 1 AS place
        FROM given
    ),
    offered AS (
        SELECT series AS series_id, make_timestamptz(micros) AS timestamp, volume, type, ordinal,
            CASE WHEN type = 'delta' THEN line END AS sample_id, NULL::BIGINT AS metadata_id,
            make_timestamptz({moment} + place) AS recorded_at
        FROM numbered
    )
    SELECT DISTINCT ON (series_id, timestamp, delta_id, level)
        series_id, epoch_us(timestamp) AS micros, volume, epoch_us(recorded_at) - {moment} AS place, type
    FROM ({identified})
    ORDER BY arrival
"""


def points(given: pa.Table, moment: int) -> list[dict[str, Any]]:
    """Of rows (line, series, micros, volume, type), each point once, by the copy that counts; in no order.

    `place` is by how many µs after `moment` it is recorded.
    """
    with duck.SINGLE.connect() as connection:
        connection.register("given", given)
        return duck.arrow(connection, POINTS.format(moment=moment, identified=identified("offered"))).to_pylist()
