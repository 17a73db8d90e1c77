"""Statistics of a meter's good points, by period, group and unit, as Ceilometer's v2 API has them.

Points in different units are never put together, nor are points of different types: the mean of a gauge and a counter
says nothing.

Periods are anchored at the start of the query (else at the first point), and empty ones are left out. Points are
judged as they are read, so that a statistic never holds a bad one, whether its hour was rolled up yet or not.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from string import Template
from typing import Any

from meterhouse import sql_files, times
from meterhouse.definitions.quality_rules import LARGEST_VOLUME
from meterhouse.errors import UnknownKeyword, UsageError
from meterhouse.filters import Condition, all_of, fields_of, on_lake
from meterhouse.queries.aggregates import AGGREGATES, GROUPS
from meterhouse.queries.meters import meter_span
from meterhouse.sample_quality.judge import judge
from meterhouse.sample_quality.points import view_all_points, view_carried
from meterhouse.site import Site
from meterhouse.stores.duck import one, quoted
from meterhouse.stores.lake_faults import retried


@retried
def statistics(
    site: Site,
    meter: str,
    *,
    query: Sequence[Condition] = (),
    period: int = 0,
    groupby: Sequence[str] = (),
    aggregate: Sequence[str] = (),
    start: datetime | None = None,
    end: datetime | None = None,
    include_excluded: bool = False,
) -> list[dict[str, Any]]:
    """Statistics of a meter.

    Args:
        query: conditions on SERIES; all of them have to hold.
        period: length of a period in seconds; 0 for one period of all.
        groupby: columns of GROUPS.
        aggregate: which of AGGREGATES to give; all but stddev where none is named.
        start, end: half-open span of event time, UTC.
        include_excluded: count the points too that the quality rules exclude. If a volume is infinite, not a number or
            beyond LARGEST_VOLUME, the point counts in `count`, and no other aggregate is computed with it.

    Returns:
        One mapping a period, group, unit and type: the aggregates, unit, type, period, period_start, period_end,
        duration (s), duration_start, duration_end, groupby. Times are aware, UTC.

    Raises:
        UnknownName: no such meter; names near misses.
        UnknownKeyword: no such group or aggregate.
        UsageError: the period is negative, the span ends before it starts, or a condition is on metadata.
    """
    for kind, names, known in (("group", groupby, GROUPS), ("aggregate", aggregate, AGGREGATES)):
        for name in names:
            if name not in known:
                raise UnknownKeyword(kind, name, known)
    conditions = all_of(query)
    if any(field.column == "metadata" for field in fields_of(conditions)):
        raise UsageError("statistics cannot be filtered by metadata", hint="`meterhouse samples` can")
    if period < 0:
        raise UsageError(f"the period is {period} seconds", hint="Give 0 or more")
    span = meter_span(site, meter)
    first, last = start or span[0], end or span[1] + timedelta(microseconds=1)
    if start is not None and end is not None and start > end:
        raise UsageError("the span ends before it starts", hint="Give a --to that is after --from")
    if first >= last:
        return []
    with site.lake.connect() as duck:
        view_all_points(duck, site.lake, site.lake.version("samples"), [(first, last)], f"meter = {quoted(meter)}")
        view_carried(duck, site.lake, [(first, last)], site.settings.carry_hours)
        judge(duck, site.rules, site.settings.carry_hours)
        condition, values = on_lake(conditions)
        duck.execute(  # a table, because a view takes no parameters
            "CREATE TEMP TABLE dims AS SELECT * FROM (SELECT series_id, any_value(type) AS type, "
            "any_value(unit) AS unit, any_value(source) AS source, any_value(resource_id) AS resource_id, "
            "any_value(project_id) AS project_id, any_value(user_id) AS user_id FROM points GROUP BY series_id) "
            f"WHERE {condition}",
            values,
        )
        good = "true" if include_excluded else f"(bits & {site.rules.critical_bits}) = 0"
        # DuckDB orders NaN above infinity, so it is not within the bound either.
        volume = f"CASE WHEN abs(v.volume) <= {LARGEST_VOLUME!r} THEN v.volume END AS volume"
        duck.execute(
            f"CREATE TEMP VIEW selected AS SELECT v.timestamp, {volume}, dims.* "
            f"FROM verdicts AS v JOIN dims USING (series_id) WHERE {good}"
        )
        anchor = start
        if anchor is None:
            (anchor,) = one(duck, "SELECT min(timestamp) FROM selected")
            if anchor is None:
                return []
        origin = f"TIMESTAMPTZ '{times.text(anchor)}'"
        period_start = f"time_bucket(INTERVAL '{period} seconds', timestamp, {origin})" if period else origin
        found = duck.execute(
            Template(sql_files.read("lake/statistics.sql")).substitute(
                groups="".join(f"{name}, " for name in groupby), period_start=period_start
            )
        )
        names = [column[0] for column in found.description or ()]
        rows = [dict(zip(names, row, strict=True)) for row in found.fetchall()]
    wanted = list(aggregate) or [name for name in AGGREGATES if name != "stddev"]
    return [_answer(row, wanted, period, groupby) for row in rows]


def _answer(row: dict[str, Any], wanted: list[str], period: int, groupby: Sequence[str]) -> dict[str, Any]:
    begins = row["period_start"]
    answer: dict[str, Any] = {name: row[name] for name in wanted}
    answer |= {
        "unit": row["unit"],
        "type": row["type"],
        "period": period,
        "period_start": begins,
        "period_end": begins + timedelta(seconds=period) if period else row["duration_end"],
        "duration": (row["duration_end"] - row["duration_start"]).total_seconds(),
        "duration_start": row["duration_start"],
        "duration_end": row["duration_end"],
        "groupby": {name: row[name] for name in groupby} or None,
    }
    return answer
