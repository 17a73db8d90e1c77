"""Samples of the lake, with the quality rules that each breaks."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from meterhouse.filters import Condition, all_of, fields_of, on_lake
from meterhouse.queries.described import OF_VERDICT, describe_points
from meterhouse.queries.meters import meter_span
from meterhouse.sample_quality.judge import judge, reason_names
from meterhouse.sample_quality.points import view_all_points, view_carried
from meterhouse.site import Site
from meterhouse.stores.duck import quoted
from meterhouse.stores.lake_faults import retried

if TYPE_CHECKING:
    import pyarrow as pa

_ID = "coalesce(printf('%016x', v.sample_id), v.series_id || '-' || epoch_us(v.timestamp))"
"""Of a delta, its sample_id; of a gauge or counter, its series and its time in microseconds since 1970."""


@retried
def samples(
    site: Site,
    meter: str,
    *,
    query: Sequence[Condition] = (),
    start: datetime | None = None,
    end: datetime | None = None,
    limit: int = 100,
) -> "pa.Table":
    """A meter's samples of a half-open span, newest first, with the names of the quality rules that each breaks.

    `query` are conditions on SAMPLES, all of which have to hold; `metadata.KEY` is the sample's own metadata.

    Samples of a gauge or counter with the same series, time and volume are shown once. Those with different volumes
    share an id, and only the one that counts does not break the rule `duplicate`.

    Raises:
        UnknownName: no series has this meter.
    """
    first, last = meter_span(site, meter)
    span = (start or first, end or last + timedelta(microseconds=1))
    wanted = all_of(query)
    condition, values = on_lake(wanted)
    by_metadata = any(field.column == "metadata" for field in fields_of(wanted))
    with site.lake.connect() as duck:
        accepts = view_all_points(duck, site, site.lake.version("samples"), [span], f"meter = {quoted(meter)}")
        view_carried(duck, site.lake, [span], site.settings.carry_hours)
        judge(duck, site.rules, site.settings.carry_hours, accepts=accepts)
        described = ""
        if by_metadata:
            describe_points(site, duck)
            described = f"LEFT JOIN described AS d ON {OF_VERDICT}"
        metadata = "d.metadata" if by_metadata else "NULL"
        return duck.sql(
            "SELECT * EXCLUDE (metadata) "
            f"FROM (SELECT {_ID} AS id, meter, p.type, unit, volume, user_id, project_id, resource_id, source, "
            f"v.timestamp, recorded_at, {reason_names(site.rules, 'bits')} AS reasons, {metadata} AS metadata "
            "FROM verdicts AS v JOIN (SELECT DISTINCT series_id, meter, type, unit, user_id, project_id, resource_id, "
            f"source FROM points) AS p ON v.series_id = p.series_id {described}) "
            f"WHERE {condition} ORDER BY timestamp DESC, id LIMIT {int(limit)}",
            params=values,
        ).to_arrow_table()
