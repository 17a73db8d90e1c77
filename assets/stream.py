"""The check that collection keeps up with the stream."""

import dagster as dg

from assets import figures
from assets.intake import NOTIFICATIONS
from assets.resources import SiteResource
from meterhouse.collection import lag


@dg.asset_check(asset=NOTIFICATIONS, name="collection_keeps_up")
def collection_keeps_up(site: SiteResource) -> dg.AssetCheckResult:
    """No message waits for longer than METERHOUSE_STREAM_LATE_SECONDS, and at least one queue exists."""
    here = site.get()
    found = lag.measure(here)
    late = here.settings.stream_late_seconds
    return dg.AssetCheckResult(
        passed=found.keeps_up(late),
        description=found.verdict(late),
        metadata={**figures.of_lag(found), "allowed_seconds": late},
    )
