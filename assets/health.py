"""The doctor's findings about the work, as asset checks: the same functions and the same words."""

from collections.abc import Iterator
from typing import NamedTuple

import dagster as dg

from assets.resources import SiteResource
from meterhouse.doctor import findings_of
from meterhouse.doctor.findings import STATES


class Watched(NamedTuple):
    """An asset check: the asset, the doctor's part, and what the check wants."""

    asset: str
    part: str
    wanted: str


CHECKS = {
    "polling_keeps_up": Watched(
        "polled_samples", "polling", "Every pollster was completely polled within the last two intervals."
    ),
    "conversion_keeps_up": Watched(
        "catalog", "conversion", "Everything landed is converted and in the catalog, without errors."
    ),
    "definition_paths_find_values": Watched(
        "samples", "definition paths", "Every path of the definitions that has found a value still finds one."
    ),
    "rollups_keep_up": Watched(
        "rollups", "dirty hours", "No event hour is dirty for longer than METERHOUSE_STREAM_LATE_SECONDS."
    ),
    "periods_keep_up": Watched("resource_periods", "periods", "The periods of resources follow within an hour."),
    "resources_are_confirmed": Watched(
        "resource_periods",
        "unconfirmed resources",
        "If audits or samples report resources of a type, they report each that exists.",
    ),
    "alarms_are_evaluated": Watched(
        "alarm_evaluations", "evaluations", "Every enabled alarm was evaluated within METERHOUSE_STREAM_LATE_SECONDS."
    ),
    "notifications_are_delivered": Watched(
        "webhooks",
        "deliveries",
        "No notification waits longer than METERHOUSE_STREAM_LATE_SECONDS, or was given up.",
    ),
    "past_days_are_sealed": Watched("archive", "archive", "The arrival days that are over are sealed."),
    "disks_have_room": Watched("archive", "disk space", "The disks have room for two more weeks."),
}
"""By the name of the check."""


def key_of(name: str) -> dg.AssetCheckKey:
    """The key of a check."""
    return dg.AssetCheckKey(dg.AssetKey(CHECKS[name].asset), name)


@dg.multi_asset_check(
    specs=[dg.AssetCheckSpec(name, asset=each.asset, description=each.wanted) for name, each in CHECKS.items()],
    can_subset=True,  # each can be executed alone
)
def health_checks(context: dg.AssetCheckExecutionContext, site: SiteResource) -> Iterator[dg.AssetCheckResult]:
    """The selected checks."""
    for key in context.selected_asset_check_keys:
        passed, severity, found = verdict(site, key.name)
        yield dg.AssetCheckResult(
            asset_key=key.asset_key, check_name=key.name, passed=passed, severity=severity, description=found
        )


def verdict(site: SiteResource, name: str) -> tuple[bool, dg.AssetCheckSeverity, str]:
    """Whether a check passes, how bad it is if not, and what was found."""
    findings = findings_of(site.get(), CHECKS[name].part)
    worst = max((finding.state for finding in findings), key=STATES.index)
    severity = dg.AssetCheckSeverity.ERROR if worst == "failed" else dg.AssetCheckSeverity.WARN
    return worst == "ok", severity, "; ".join(map(str, findings))
