"""The doctor: checks each part of a site and says what to fix. A new check is one more line in `CHECKS`."""

from typing import Any

from meterhouse.doctor import bills, configured, intake, polling, steps, stores, usage
from meterhouse.doctor.access import access
from meterhouse.doctor.api import api
from meterhouse.doctor.audits import audits
from meterhouse.doctor.findings import Check, Finding, guarded
from meterhouse.settings import settings
from meterhouse.site import Site
from meterhouse.stores.warehouse import Warehouse

__all__ = ["CHECKS", "Check", "Finding", "examine", "findings_of"]

WAREHOUSE, LAKE = ("warehouse",), ("lake",)

CHECKS = (
    Check("definitions", configured.definitions),
    Check("quality rules", configured.quality_rules),
    Check("archive policies", configured.archive_policies),
    Check("alarms", configured.alarms),
    Check("prices", configured.prices),
    Check("names", configured.names),
    Check("keystone", configured.keystone),
    Check("api", api),
    Check("reports", configured.reports),
    Check("warehouse", stores.warehouse),
    Check("access", access, needs=WAREHOUSE),
    Check("clocks", stores.clocks, needs=WAREHOUSE),
    Check("lake", stores.lake),
    Check("lake commits", stores.lake_commits, needs=LAKE),
    Check("history", stores.history, needs=WAREHOUSE + LAKE),
    Check("disk space", stores.disks, needs=LAKE),
    Check("stream", intake.stream, needs=WAREHOUSE, otherwise=intake.stream_without_warehouse),
    Check("polling", polling.polling, needs=WAREHOUSE),
    Check("missed slots", polling.missed, needs=WAREHOUSE),
    Check("conversion", intake.conversion, needs=WAREHOUSE + LAKE),
    Check("audits", audits, needs=WAREHOUSE + LAKE),
    Check("definition paths", intake.definition_paths, needs=WAREHOUSE),
    Check("dirty hours", steps.dirty, needs=WAREHOUSE),
    Check("policy changes", steps.policy_changes, needs=WAREHOUSE),
    Check("periods", usage.periods, needs=WAREHOUSE + LAKE),
    Check("unconfirmed resources", usage.confirmed, needs=WAREHOUSE),
    Check("closed months", bills.closed_months, needs=WAREHOUSE + LAKE),
    Check("runs", steps.steps, needs=WAREHOUSE),
    Check("evaluations", steps.evaluations, needs=WAREHOUSE),
    Check("deliveries", steps.outbox, needs=WAREHOUSE),
    Check("erasures", steps.unfinished_erasures, needs=WAREHOUSE),
    Check("archive", steps.sealed_days, needs=WAREHOUSE + LAKE),
    Check("upkeep", steps.kept, needs=WAREHOUSE + LAKE),
)
"""All checks, in the order in which their findings are shown."""


def examine() -> list[dict[str, Any]]:
    """Check every part. Returns rows of `part`, `state` (ok, warning or failed) and `finding`. Never raises."""
    return [{"part": each.part, "state": each.state, "finding": str(each)} for each in _all()]


def findings_of(site: Site, part: str) -> list[Finding]:
    """What one check finds. Never raises."""
    (check,) = (check for check in CHECKS if check.part == part)
    return check.findings(site)


def _all() -> list[Finding]:
    found = guarded("settings", configured.settings_are_known)
    if found[0].state == "failed":
        return found  # they say where everything else is
    given = settings()
    site = Site(given, Warehouse(given.warehouse, given.lease_seconds))
    failed: set[str] = set()
    for check in CHECKS:
        of_check = check.findings(site, failed)
        found += of_check
        failed |= {each.part for each in of_check if each.state == "failed"}
    return found
