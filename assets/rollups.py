"""Roll-ups of good points."""

import dagster as dg

from assets import figures
from assets.partitions import has_partition, hour_key, hours
from assets.quality import sample_quality
from assets.resources import RETRIES, SiteResource
from assets.runs import hours_to_do
from meterhouse import plots
from meterhouse.rollups.following import Following, follow, keep_following
from meterhouse.rollups.step import points_by_hour, roll_up


@dg.asset(
    deps=[sample_quality],
    partitions_def=hours,
    backfill_policy=dg.BackfillPolicy.single_run(),
    group_name="rollups",
    kinds={"delta", "duckdb", "sql"},
    owners=["team:telemetry"],
    retry_policy=RETRIES,
)
def rollups(context: dg.AssetExecutionContext, site: SiteResource) -> dg.MaterializeResult[None]:
    """Roll-ups of good points to 5 minutes, 1 hour and 1 day, in the lake; hours and days are also in the warehouse."""
    here = site.get()
    followed = Following()
    done = roll_up(here, hours_to_do(context, here, "rollups"), progress=keep_following(here, followed))
    follow(here, followed)
    latest = points_by_hour(here, 48)
    for hour, points in latest.items():
        if hour in done.hours and has_partition(hour):
            context.add_asset_metadata({"good_points": points}, partition_key=hour_key(hour))
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": done.rows,
            "hours_recomputed": len(done.hours),
            "days_recomputed": len({hour.date() for hour in done.hours}),
            "points_of_these_days": done.points,
            "excluded_in_these_hours": done.excluded,
            "warehouse_rows": followed.rows,
            "points_per_second": round(done.points / done.seconds) if done.seconds else 0,
            **figures.of_table(here, "rollups"),
            "lag_seconds": figures.lag_seconds(here, "rollups", "last_at"),
            "latest_hours": dg.MetadataValue.md(plots.bars(list(latest.values()), title="points an hour, latest 48")),
        }
    )
