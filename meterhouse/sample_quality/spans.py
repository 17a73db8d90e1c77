"""Spans of event time as a DuckDB table: queries join with it, so that no query grows with the number of spans."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from meterhouse import times
from meterhouse.stores.duck import Connection, quoted
from meterhouse.times import Span

if TYPE_CHECKING:
    import pyarrow as pa


@dataclass(frozen=True)
class SpanTable:
    """Spans in the table `name` (start_at, end_at), and their hours since 1970 in the table `name`_hours (hour).

    The second table is only there if there are several spans. These consist of whole hours.
    """

    name: str
    spans: Sequence[Span]

    def within(self, column: str) -> str:
        """A SQL condition: the time is in one of the spans."""
        start, end = (quoted(times.text(moment)) for moment in (self.spans[0][0], self.spans[-1][1]))
        hull = f"{column} >= {start} AND {column} < {end}"
        if len(self.spans) == 1:
            return f"({hull})"
        # Hours as numbers: date_trunc takes ten times as long.
        return f"({hull} AND epoch_us({column}) // 3600000000 IN (SELECT hour FROM {self.name}_hours))"


def span_table(connection: Connection, name: str, spans: Sequence[Span]) -> SpanTable:
    """Create the table of these spans, which are in order and apart, and at least one."""
    import pyarrow as pa

    from meterhouse.stores.lake_tables import TIME

    starts, ends = (pa.array([span[n] for span in spans], TIME) for n in (0, 1))
    _create(connection, name, pa.table({"start_at": starts, "end_at": ends}))
    if len(spans) > 1:
        hours = [times.micros(hour) // 3_600_000_000 for span in spans for hour in times.hours_between(*span)]
        _create(connection, f"{name}_hours", pa.table({"hour": pa.array(hours, pa.int64())}))
    return SpanTable(name, spans)


def _create(connection: Connection, name: str, rows: "pa.Table") -> None:
    connection.register("spans_given", rows)
    connection.execute(f"CREATE OR REPLACE TEMP TABLE {name} AS FROM spans_given")
    connection.unregister("spans_given")


def reaching(spans: Sequence[Span], *, back: int = 0, ahead: int = 0) -> list[Span]:
    """Each span with this many hours before and after it, as files are looked up; they may overlap."""
    return [(start - back * times.HOUR, end + ahead * times.HOUR) for start, end in spans]
