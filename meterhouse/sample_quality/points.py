"""The lake's points for a computation: the samples of some event hours, and the counters' points before them."""

from datetime import datetime
from string import Template
from typing import TYPE_CHECKING

from meterhouse import shipped, times
from meterhouse.stores.duck import Connection

if TYPE_CHECKING:
    import pyarrow as pa

    from meterhouse.stores.lake import Lake

Span = tuple[datetime, datetime]
"""A half-open span of event time, UTC."""


def within(column: str, spans: list[Span]) -> str:
    """A SQL condition, for both DuckDB and delta-rs: the column is in one of the spans."""
    parts = (f"({column} >= '{times.text(start)}' AND {column} < '{times.text(end)}')" for start, end in spans)
    return f"({' OR '.join(parts)})"


def view_points(connection: Connection, lake: "Lake", version: int, spans: list[Span], where: str = "true") -> None:
    """Create the view `points`: the samples of the spans, in a version of the lake's `samples`."""
    files = lake.files("samples", version=version, between=("timestamp", spans[0][0], spans[-1][1]))
    lake.view(connection, "samples", files)
    connection.execute(
        f"CREATE OR REPLACE TEMP VIEW points AS SELECT * FROM samples WHERE {within('timestamp', spans)} AND {where}"
    )


def view_carried(connection: Connection, lake: "Lake", spans: list[Span], carry_hours: int) -> None:
    """Create the table `carried`: the last good point of each series before the spans, from the hourly roll-ups.

    Points are also carried over the gaps between spans: for each span, the roll-ups before it that are outside all
    spans are used.
    """
    first, last = spans[0][0] - carry_hours * times.HOUR, spans[-1][1]
    lake.view(
        connection,
        "rollups",
        lake.files("rollups", between=("bucket", first, last), partitions={"granularity_s": [3600]}),
    )
    pieces = [
        Template(shipped.sql("lake/carried.sql"))
        .substitute(
            {
                "from": times.text(start - carry_hours * times.HOUR),
                "until": times.text(start),
                "wanted": within("bucket", spans),
            }
        )
        .rstrip()
        for start, _ in spans
    ]
    together = " UNION ALL ".join(f"({piece})" for piece in pieces)
    connection.execute(f"CREATE OR REPLACE TEMP TABLE carried AS SELECT DISTINCT * FROM ({together})")


def replace_spans(
    lake: "Lake",
    table: str,
    rows: "pa.Table",
    time_column: str,
    spans: list[Span],
    partitions: dict[str, int] | None = None,
) -> None:
    """Replace a lake table's rows of these spans. If there are neither old nor new rows, nothing is committed.

    Args:
        lake: the lake.
        table: the name of the table.
        rows: the new rows.
        time_column: the column that the spans refer to.
        spans: the spans of event time.
        partitions: partition column → the only value to replace.
    """
    days = sorted({hour.date() for start, end in spans for hour in times.hours_between(start, end)})
    fixed = partitions or {}
    existing = lake.files(
        table,
        between=(time_column, spans[0][0], spans[-1][1]),
        partitions={"event_day": days, **{column: [value] for column, value in fixed.items()}},
    )
    if rows.num_rows or existing:
        listed = ", ".join(f"'{day}'" for day in days)
        exactly = "".join(f"{column} = {value} AND " for column, value in fixed.items())
        lake.replace(table, rows, f"{exactly}event_day IN ({listed}) AND {within(time_column, spans)}")
