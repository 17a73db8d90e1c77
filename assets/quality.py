"""Quality: judges the points of dirty hours, and checks the good ones with Great Expectations."""

from collections.abc import Iterator

import dagster as dg

from assets import figures
from assets.intake import CATALOG
from assets.partitions import hours
from assets.resources import RETRIES, SiteResource
from assets.runs import hours_to_do
from meterhouse import plots
from meterhouse.extras import require
from meterhouse.sample_quality.step import judge_hours

MAX_FLAGGED = 0.1
"""If a larger share of the latest points is flagged, the check warns."""


@dg.asset(
    deps=[CATALOG],
    partitions_def=hours,
    backfill_policy=dg.BackfillPolicy.single_run(),
    group_name="quality",
    kinds={"delta", "duckdb"},
    owners=["team:telemetry"],
    retry_policy=RETRIES,
)
def sample_quality(context: dg.AssetExecutionContext, site: SiteResource) -> dg.MaterializeResult[None]:
    """The verdict of the quality rules on every point of an event hour. Flagged points are listed in quarantine."""
    here = site.get()
    done = judge_hours(here, hours_to_do(context, here, "sample_quality"))
    by_rule = plots.table(["rule", "points"], sorted(done.flagged.items()))
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": done.points,
            "hours": len(done.hours),
            "excluded": done.excluded,
            "flagged": dg.MetadataValue.md(by_rule),
            "points_per_second": round(done.points / done.seconds) if done.seconds else 0,
            **figures.of_table(here, "quarantine"),
        }
    )


@dg.multi_asset_check(
    specs=[
        dg.AssetCheckSpec(
            "good_points_keep_the_rules",
            asset=sample_quality,
            description="Great Expectations finds no good point that breaks a critical rule.",
        ),
        dg.AssetCheckSpec(
            "few_points_are_flagged",
            asset=sample_quality,
            description=f"At most {MAX_FLAGGED:.0%} of the latest points are excluded or break a warning rule.",
        ),
    ]
)
def sample_quality_checks(site: SiteResource) -> Iterator[dg.AssetCheckResult]:
    require("great_expectations")
    from quality.gate import check

    found = check(site.get())
    yield dg.AssetCheckResult(
        check_name="good_points_keep_the_rules",
        asset_key=sample_quality.key,
        passed=found.broken == 0,
        severity=dg.AssetCheckSeverity.ERROR,
        metadata={"points": found.points, "broken": found.broken, "rules": dg.MetadataValue.json(found.by_rule)},
    )
    yield dg.AssetCheckResult(
        check_name="few_points_are_flagged",
        asset_key=sample_quality.key,
        passed=found.share_flagged <= MAX_FLAGGED,
        severity=dg.AssetCheckSeverity.WARN,
        metadata={"share_flagged": found.share_flagged, "excluded": found.excluded, "warned": found.warned},
    )
