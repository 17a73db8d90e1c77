"""Backfill: recompute an asset over a span of the past."""

from datetime import date, datetime
from typing import TYPE_CHECKING, Any

from meterhouse import times
from meterhouse.errors import UnknownKeyword, UsageError
from meterhouse.progress import Progress, quiet
from meterhouse.queries import reports

if TYPE_CHECKING:
    from meterhouse.site import Site


def assets() -> list[str]:
    """What can be recomputed."""
    return ["sample_quality", "rollups", "archive", *reports.names()]


def backfill(
    site: "Site",
    asset: str,
    start: datetime,
    end: datetime,
    *,
    why: str = "",
    progress: Progress = quiet,
) -> dict[str, Any]:
    """Recompute an asset over the half-open span [start, end) of event time (of arrival days for `archive`), UTC.

    The hours to recompute are marked first, so that a run that is stopped goes on where it was, by this command or by
    the sensor. Recomputing quality recomputes the roll-ups on it too.

    Raises:
        UnknownKeyword: there is no such asset.
        UsageError: the span is empty.
    """
    from meterhouse.archive.seal import archive
    from meterhouse.catalog import hours_with_points, redo
    from meterhouse.queries import report_exports
    from meterhouse.rollups.step import roll_up
    from meterhouse.sample_quality.step import judge_hours

    if asset not in assets():
        raise UnknownKeyword("asset", asset, assets())
    if start >= end:
        raise UsageError("the span is empty", where="--from/--to", hint="Give a --to that is after --from")
    hours = hours_with_points(site, start, end)
    days = _arrival_days(site, start, end) if asset == "archive" else sorted({hour.date() for hour in hours})
    if asset in ("sample_quality", "rollups"):
        marked = redo(site, "rollups" if asset == "rollups" else "sample_quality", hours, why)
        judged = judge_hours(site, hours, progress=progress)
        rolled = roll_up(site, hours, progress=progress)
        return {"hours": marked, "points": rolled.points, "excluded": judged.excluded, "rollups": rolled.rows}
    rows = 0
    for number, day in enumerate(days, 1):
        if asset == "archive":
            rows += sum(sealed.rows for sealed in archive(site, day).sealed)
        else:
            rows += report_exports.export(site, asset, day).rows.num_rows
        progress(number, len(days))
    return {"days": len(days), "rows": rows}


def _arrival_days(site: "Site", start: datetime, end: datetime) -> list[date]:
    """The days of the span on which something arrived."""
    from meterhouse.archive.seal import RECIPES

    found = {
        date.fromisoformat(hour[:10])
        for table in RECIPES
        for hour in site.lake.actions(table)["partition.arrival_hour"].to_pylist()
        if times.arrival_hour(start)[:10] <= hour[:10] and times.parse(f"{hour}:00") < end
    }
    return sorted(found)
