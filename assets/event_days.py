"""Quality and roll-ups: computed for event hours, by whole days in Dagster. A run writes one event for each day."""

from collections.abc import Iterator, Mapping
from datetime import date
from typing import Any

import dagster as dg

from assets import figures
from assets.intake import CATALOG
from assets.partitions import days, has_partition
from assets.resources import RETRIES, SiteResource
from assets.runs import DIRTY, hours_to_do
from meterhouse import by_day, plots, times
from meterhouse.catalog import points_by_hour
from meterhouse.rollups.following import follow, keep_following
from meterhouse.rollups.step import roll_up
from meterhouse.sample_quality.step import judge_hours
from meterhouse.site import Site

SAMPLE_QUALITY, ROLLUPS = dg.AssetKey("sample_quality"), dg.AssetKey("rollups")


@dg.multi_asset(
    can_subset=True,
    partitions_def=days,
    backfill_policy=dg.BackfillPolicy.single_run(),
    specs=[
        dg.AssetSpec(
            SAMPLE_QUALITY,
            deps=[CATALOG],
            description="The verdict of the quality rules on every point of an event day. Flagged points are listed in "
            "quarantine.",
            group_name="quality",
            kinds={"delta", "duckdb"},
            owners=["team:telemetry"],
            skippable=True,
        ),
        dg.AssetSpec(
            ROLLUPS,
            deps=[SAMPLE_QUALITY],
            description="Roll-ups of good points to 1 hour, 1 day and what the archive policies ask for, in the lake; "
            "hours and days are also in the warehouse.",
            group_name="rollups",
            kinds={"delta", "duckdb", "sql"},
            owners=["team:telemetry"],
            skippable=True,
        ),
    ],
    retry_policy=RETRIES,
)
def event_days(context: dg.AssetExecutionContext, site: SiteResource) -> Iterator[dg.MaterializeResult[None]]:
    here, wanted = site.get(), context.selected_asset_keys
    with hours_to_do(context, here, "sample_quality" if SAMPLE_QUALITY in wanted else "rollups") as hours:
        if ROLLUPS not in wanted:
            judged = judge_hours(here, hours)
        else:
            rolled = roll_up(here, hours, progress=keep_following(here))  # judges in the same pass
            follow(here)
    if ROLLUPS not in wanted:
        yield from _materialized(context, SAMPLE_QUALITY, here, vars(judged))
        return
    if SAMPLE_QUALITY in wanted:
        yield from _materialized(context, SAMPLE_QUALITY, here, vars(rolled.judged))
    yield from _materialized(context, ROLLUPS, here, vars(rolled))


def of_days(site: Site, asset: dg.AssetKey, done: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """The metadata of each day that a run computed and that Dagster shows: partition key, figures of the day.

    Args:
        site: the site.
        asset: SAMPLE_QUALITY or ROLLUPS.
        done: the run's figures, as its step returned them or as the warehouse's `runs` keeps them.
    """
    shared = _of_run(site, asset, done)
    for day, of_day in done.get("days", {}).items():
        if has_partition(date.fromisoformat(day)):
            yield day, {**_of_day(site, asset, day, of_day), **shared}


def _materialized(
    context: dg.AssetExecutionContext, asset: dg.AssetKey, site: Site, done: Mapping[str, Any]
) -> Iterator[dg.MaterializeResult[None]]:
    """The result of a run, after the events of days that are not among its partitions.

    A run of the sensor that did nothing on its own day has none.
    """
    computed = dict(of_days(site, asset, done))
    own = list(context.partition_keys)
    for day in sorted(computed.keys() - set(own)):
        context.log_event(dg.AssetMaterialization(asset, partition=day, metadata=computed[day]))
    if DIRTY in context.run.tags and not computed.keys() & set(own):
        return
    for day in own:
        nothing = dict.fromkeys(("dagster/row_count", "hours", "points", "excluded"), 0)
        context.add_asset_metadata(computed.get(day, nothing), asset_key=asset, partition_key=day)
    yield dg.MaterializeResult(asset_key=asset, metadata=_of_run(site, asset, done))


def _of_run(site: Site, asset: dg.AssetKey, done: Mapping[str, Any]) -> dict[str, Any]:
    points, seconds = done["points"], done["seconds"]
    metadata: dict[str, Any] = {
        "days_of_run": len(done["days"]),
        "hours_of_run": by_day.total(done["days"], "hours"),
        "points_of_run": points,
        "excluded_of_run": done["excluded"],
        "seconds_of_run": round(seconds, 3),
        "points_per_second": round(points / seconds) if seconds else 0,
    }
    if asset == SAMPLE_QUALITY:
        by_rule = plots.table(["rule", "points"], sorted(done["flagged"].items()))
        return {**metadata, "flagged_of_run": dg.MetadataValue.md(by_rule), **figures.of_table(site, "quarantine")}
    lag = figures.lag_seconds(site, "rollups", "last_at")
    derived = {"derived_meters": dg.MetadataValue.md(figures.of_derived_meters(site))}
    return {**metadata, **figures.of_table(site, "rollups"), "lag_seconds": lag, **derived}


def _of_day(site: Site, asset: dg.AssetKey, day: str, done: Mapping[str, int]) -> dict[str, Any]:
    metadata: dict[str, Any] = {name: done[name] for name in ("hours", "points", "excluded")}
    if asset == SAMPLE_QUALITY:
        return {**metadata, "dagster/row_count": done["points"]}
    start = times.day_start(date.fromisoformat(day))
    hours = points_by_hour(site, start, start + times.DAY)
    plot = plots.by_hour(hours, start, start + times.DAY, title="good points an hour")
    return {**metadata, "dagster/row_count": done["rows"], "hours_of_day": dg.MetadataValue.md(plot)}
