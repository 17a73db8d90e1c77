"""The gate: checks the good points of the latest judged hours against the rules with Great Expectations."""

from dataclasses import dataclass
from datetime import timedelta
from string import Template

from sqlalchemy import func, select

from meterhouse import times
from meterhouse.sample_quality.points import view_carried, view_points
from meterhouse.site import Site
from meterhouse.stores.lake_faults import retried
from meterhouse.stores.point_identity import identified
from meterhouse.stores.warehouse_tables import dirty_hours
from quality.suite import validate

MAX_POINTS = 100_000
"""Maximum number of points that one check reads. If there are more, it reads a random sample."""

_GOOD = """
SELECT p.meter, p.type, p.series_id, p.timestamp, p.recorded_at, p.volume,
    lag(p.volume) OVER (PARTITION BY p.series_id ORDER BY p.timestamp) AS previous
FROM (
    SELECT DISTINCT ON (series_id, timestamp, delta_id, level) * FROM ($points)
    ORDER BY arrival, sample_id NULLS LAST, metadata_id NULLS LAST
) AS p
ANTI JOIN ($excluded) USING (series_id, timestamp, delta_id, level)
"""


@dataclass(frozen=True)
class Gate:
    """The result of a check: how many good points were checked, and how many break critical rules."""

    points: int
    broken: int
    by_rule: dict[str, int]


@retried
def check(site: Site, hours: int = 24) -> Gate:
    """Check the good points of the latest judged hours.

    Raises:
        RuntimeError: Great Expectations could not evaluate a rule.
    """
    with site.warehouse.read() as connection:
        present = times.now() + times.HOUR
        judged = dirty_hours.c.judged_marks == dirty_hours.c.marks
        latest = connection.execute(
            select(func.max(dirty_hours.c.hour)).where(judged, dirty_hours.c.hour <= present)
        ).scalar()
        if latest is None:
            return Gate(0, 0, {})
        start = latest - timedelta(hours=hours - 1)
        known = connection.execute(
            select(dirty_hours.c.hour).where(judged, dirty_hours.c.hour >= start, dirty_hours.c.hour <= latest)
        ).scalars()
        spans = times.spans(list(known))
    with site.lake.connect() as duck:
        view_points(duck, site, site.lake.version("samples"), spans)
        view_carried(duck, site.lake, spans, site.settings.carry_hours)
        span = (spans[0][0], spans[-1][1])
        site.lake.view(duck, "quarantine", site.lake.files("quarantine", overlapping=("timestamp", [span])))
        query = Template(_GOOD).substitute(
            points=identified("(SELECT * FROM points WHERE NOT accepted)"),
            excluded=identified("quarantine WHERE excluded"),
        )
        good = duck.sql(f"SELECT * FROM ({query}) USING SAMPLE reservoir({MAX_POINTS} ROWS) REPEATABLE (7)").df()
    found = validate(good, site.rules)
    return Gate(
        points=len(good),
        broken=found.count(site.rules, "critical"),
        by_rule={rule: len(rows) for rule, rows in found.broken.items()},
    )
