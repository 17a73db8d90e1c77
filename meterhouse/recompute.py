"""Backfill: recompute an asset over a span of the past."""

from datetime import date, datetime
from typing import TYPE_CHECKING, Any

from meterhouse import times
from meterhouse.errors import UnknownKeyword, UsageError
from meterhouse.progress import Progress, no_progress
from meterhouse.queries import reports

if TYPE_CHECKING:
    from meterhouse.site import Site


def assets() -> list[str]:
    """The names of the assets that can be recomputed."""
    return ["sample_quality", "rollups", "archive", *reports.names()]


def backfill(
    site: "Site",
    asset: str,
    start: datetime,
    end: datetime,
    *,
    why: str = "",
    progress: Progress = no_progress,
) -> dict[str, Any]:
    """Recompute an asset over the half-open span [start, end) of event time (of arrival days for `archive`), UTC.

    The hours to recompute are marked first. If the run is stopped, this command or the sensor therefore continues it.
    Recomputing quality recomputes the roll-ups that depend on it too.

    Raises:
        UnknownKeyword: the asset does not exist.
        UsageError: the span is empty.
    """
    from meterhouse.archive.seal import archive
    from meterhouse.catalog import hours_with_points, mark_for_recompute
    from meterhouse.queries import report_exports
    from meterhouse.rollups.following import follow, keep_following
    from meterhouse.rollups.step import roll_up

    if asset not in assets():
        raise UnknownKeyword("asset", asset, assets())
    if start >= end:
        raise UsageError("the span is empty", where="--from/--to", hint="Set --to to a time after --from")
    hours = hours_with_points(site, start, end)
    days = _arrival_days(site, start, end) if asset == "archive" else sorted({hour.date() for hour in hours})
    if asset in ("sample_quality", "rollups"):
        marked = mark_for_recompute(site, "rollups" if asset == "rollups" else "sample_quality", hours, why)
        rolled = roll_up(site, hours, progress=keep_following(site, progress=progress))
        follow(site)
        return {"hours": marked, "points": rolled.points, "excluded": rolled.judged.excluded, "rollups": rolled.rows}
    rows = 0
    for number, day in enumerate(days, 1):
        if asset == "archive":
            rows += sum(sealed.rows for sealed in archive(site, day).sealed)
        else:
            rows += report_exports.export(site, asset, day).rows.num_rows
        progress(number, len(days))
    return {"days": len(days), "rows": rows}


def _arrival_days(site: "Site", start: datetime, end: datetime) -> list[date]:
    """The days of the span on which messages arrived."""
    from meterhouse.archive.hours import RECIPES

    found = {
        date.fromisoformat(hour[:10])
        for table in RECIPES
        for hour in site.lake.actions(table)["partition.arrival_hour"].to_pylist()
        if times.arrival_hour(start)[:10] <= hour[:10] and times.parse(f"{hour}:00") < end
    }
    return sorted(found)
