"""The lake's points for a computation: the samples of some event hours, and the counters' points before them."""

from collections.abc import Sequence
from string import Template
from typing import TYPE_CHECKING

from meterhouse import sql_files
from meterhouse.sample_quality.spans import reaching, span_table
from meterhouse.stores.duck import Connection
from meterhouse.times import Span

if TYPE_CHECKING:
    from meterhouse.stores.lake import Lake


def view_points(connection: Connection, lake: "Lake", version: int, spans: Sequence[Span], where: str = "true") -> None:
    """Create the view `points`: the samples of the spans, in a version of the lake's `samples`.

    Args:
        connection: of the lake.
        lake: the lake.
        version: of `samples`.
        spans: in order; if there are several, they consist of whole hours.
        where: a further condition.
    """
    lake.view(connection, "samples", lake.files("samples", version=version, overlapping=("timestamp", spans)))
    within = span_table(connection, "spans_of_points", spans).within("timestamp")
    connection.execute(f"CREATE OR REPLACE TEMP VIEW points AS SELECT * FROM samples WHERE {within} AND {where}")


def view_all_points(
    connection: Connection, lake: "Lake", version: int, spans: Sequence[Span], where: str = "true"
) -> None:
    """As `view_points`, with the points of derived meters, as far as they were computed."""
    view_points(connection, lake, version, spans, where)
    files = lake.files("derived", overlapping=("timestamp", spans))
    if not files:
        return
    lake.view(connection, "derived", files)
    received = span_table(connection, "spans_of_points", spans).within("timestamp")
    within = span_table(connection, "spans_of_derived", spans).within("timestamp")
    connection.execute(
        "CREATE OR REPLACE TEMP VIEW points AS "
        f"SELECT * EXCLUDE (arrival_hour) FROM samples WHERE {received} AND {where} "
        f"UNION ALL BY NAME SELECT * EXCLUDE (event_day) FROM derived WHERE {within} AND {where}"
    )


def view_carried(connection: Connection, lake: "Lake", spans: Sequence[Span], carry_hours: int) -> None:
    """Create the table `carried`: the last good point of each counter before the spans, from the hourly roll-ups.

    Points are also carried over the gaps between spans: for each span, the roll-ups before it that are outside all
    spans are used.
    """
    before = reaching([(start, start) for start, _ in spans], back=carry_hours)
    files = lake.files("rollups", overlapping=("bucket", before), partitions={"granularity_s": [3600]})
    lake.view(connection, "rollups", files)
    span_table(connection, "spans_of_carried", spans)
    query = Template(sql_files.read("lake/carried.sql")).substitute(carry_hours=carry_hours)
    connection.execute(f"CREATE OR REPLACE TEMP TABLE carried AS {query}")
