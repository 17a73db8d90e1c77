"""Checks of quality: how many points are flagged, and the good ones with Great Expectations."""

from collections.abc import Iterator

import dagster as dg

from assets.event_days import SAMPLE_QUALITY
from assets.resources import RETRIES, SiteResource
from meterhouse.extras import require
from meterhouse.sample_quality.step import judged_last

MAX_FLAGGED = 0.1
"""If a larger share of the points that were judged last is flagged, the check warns."""


@dg.asset_check(asset=SAMPLE_QUALITY, name="few_points_are_flagged")
def few_points_are_flagged(site: SiteResource) -> dg.AssetCheckResult:
    """At most a tenth of the points that were judged last are excluded or break a warning rule."""
    points, excluded, warned = judged_last(site.get())
    share = min((excluded + warned) / points, 1.0) if points else 0.0
    return dg.AssetCheckResult(
        passed=share <= MAX_FLAGGED,
        severity=dg.AssetCheckSeverity.WARN,
        description=f"{share:.1%} of {points:,} points",
        metadata={"points": points, "share_flagged": share, "excluded": excluded, "warned": warned},
    )


@dg.multi_asset(
    specs=[
        dg.AssetSpec(
            "good_points",
            deps=[SAMPLE_QUALITY],
            description="The latest good points, or a random sample of 100,000, as Great Expectations saw them.",
            group_name="quality",
            kinds={"duckdb"},
            owners=["team:telemetry"],
            skippable=True,
        )
    ],
    check_specs=[
        dg.AssetCheckSpec(
            "good_points_keep_the_rules",
            asset="good_points",
            description="Great Expectations finds no good point that breaks a critical rule.",
        )
    ],
    can_subset=True,  # the check can be executed alone
    retry_policy=RETRIES,
)
def good_points(
    context: dg.AssetExecutionContext, site: SiteResource
) -> Iterator[dg.MaterializeResult[None] | dg.AssetCheckResult]:
    # Its own asset, materialized as often as the check runs: one of `sample_quality` would always be out of date.
    require("great_expectations")
    from quality.gate import check

    found = check(site.get())
    by_rule = dg.MetadataValue.json(found.by_rule)
    if context.selected_asset_keys:
        yield dg.MaterializeResult(asset_key="good_points", metadata={"points": found.points, "broken": by_rule})
    for key in context.selected_asset_check_keys:
        yield dg.AssetCheckResult(
            asset_key=key.asset_key,
            check_name=key.name,
            passed=found.broken == 0,
            severity=dg.AssetCheckSeverity.ERROR,
            metadata={"points": found.points, "broken": found.broken, "rules": by_rule},
        )
