"""The lake's points for a computation: the samples of some event hours, and the counters' points before them."""

from collections.abc import Sequence
from string import Template
from typing import TYPE_CHECKING

from meterhouse import sql_files
from meterhouse.corrections.applying import corrected
from meterhouse.corrections.recorded import active
from meterhouse.sample_quality.spans import reaching, span_table
from meterhouse.stores.duck import Connection
from meterhouse.times import Span

if TYPE_CHECKING:
    from meterhouse.site import Site
    from meterhouse.stores.lake import Lake


def view_points(connection: Connection, site: "Site", version: int, spans: Sequence[Span], where: str = "true") -> bool:
    """Create the view `points`: the samples of the spans as corrected, in a version of the lake's `samples`.

    It has the columns of `samples`, and `accepted`: whether a correction accepts the point.

    Args:
        connection: of the lake.
        site: the site.
        version: of `samples`.
        spans: in order; if there are several, they consist of whole hours.
        where: a further condition, on what corrections leave as it is.

    Returns:
        Whether a correction may accept points.
    """
    query, accepts = _received(connection, site, version, spans, where)
    connection.execute(f"CREATE OR REPLACE TEMP VIEW points AS {query}")
    return accepts


def _received(
    connection: Connection, site: "Site", version: int, spans: Sequence[Span], where: str
) -> tuple[str, bool]:
    """A query for the samples of the spans as corrected, and whether a correction may accept some."""
    files = site.lake.files("samples", version=version, overlapping=("timestamp", spans))
    site.lake.view(connection, "samples", files)
    within = span_table(connection, "spans_of_points", spans).within("timestamp")
    landed = f"(SELECT * FROM samples WHERE {within} AND {where})"
    corrections = active(site, spans)
    return corrected(connection, landed, corrections), any(each.action == "accept" for each in corrections)


def view_all_points(
    connection: Connection, site: "Site", version: int, spans: Sequence[Span], where: str = "true"
) -> bool:
    """As `view_points`, with the points of derived meters, as far as they were computed."""
    query, accepts = _received(connection, site, version, spans, where)
    files = site.lake.files("derived", overlapping=("timestamp", spans))
    if not files:
        connection.execute(f"CREATE OR REPLACE TEMP VIEW points AS {query}")
        return accepts
    site.lake.view(connection, "derived", files)
    within = span_table(connection, "spans_of_derived", spans).within("timestamp")
    connection.execute(
        "CREATE OR REPLACE TEMP VIEW points AS "
        f"SELECT * EXCLUDE (arrival_hour) FROM ({query}) UNION ALL BY NAME "
        f"SELECT * EXCLUDE (event_day), false AS accepted FROM derived WHERE {within} AND {where}"
    )
    return accepts


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
