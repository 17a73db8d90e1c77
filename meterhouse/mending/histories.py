"""Followers whose table went back: they start over where the lake is now."""

from collections.abc import Callable
from datetime import datetime, timedelta

from meterhouse import catalog, computed, history, times
from meterhouse.conversion import step as conversion
from meterhouse.conversion import used
from meterhouse.errors import Replaced, WentBack
from meterhouse.mending.findings import Findings
from meterhouse.mending.leases import WAIT_SECONDS
from meterhouse.rollups.following import follow, keep_following
from meterhouse.rollups.step import roll_up
from meterhouse.site import Site
from meterhouse.stores.lake import Lake

_CLOCKS = timedelta(hours=1)
"""How far clocks may be apart: files that were written this long before the lost commit are looked at too."""


def convert_what_came_since(site: Site, salvage: Callable[[], set[str]], findings: Findings) -> None:
    """Convert the notifications that came after the table went back, and then what else is not converted.

    Args:
        site: the site.
        salvage: adds notifications that the table lacks, and returns their arrival hours.
        findings: gets what was done.

    Raises:
        AlreadyRunning: another process is still converting.
    """
    lake, done = site.lake, conversion.Conversion()
    with site.warehouse.lease("convert", wait_seconds=WAIT_SECONDS) as lease:
        before = lake.version("notifications")
        salvaged = salvage()
        newest = lake.version("notifications")
        for table in conversion.TABLES:
            reached = conversion.converted_position(lake, table)
            same = history.is_same_history(lake, "notifications", reached)
            if same and not salvaged:
                continue
            if same:
                hours = _waiting_hours(lake, min(reached.version, before))
            else:
                hours = _hours_since(lake, newest, times.EPOCH if reached.at is None else reached.at - _CLOCKS)
                findings.fixed(
                    "conversion",
                    f"notifications went back since they were converted to {table}; what came since is converted",
                )
            conversion.convert_hours_of(site, lease, conversion.Work.of(site), table, hours | salvaged, newest, done)
    conversion.convert(site, wait_seconds=WAIT_SECONDS)
    if not findings.found("conversion"):
        findings.ok("conversion", "everything that was landed is converted")


def _waiting_hours(lake: Lake, after: int) -> set[str]:
    """The arrival hours of what came after a version; all hours if that is no longer known."""
    try:
        return lake.appended_hours("notifications", after)
    except Replaced:
        return set(lake.actions("notifications")["partition.arrival_hour"].to_pylist())


def _hours_since(lake: Lake, version: int, moment: datetime) -> set[str]:
    """The arrival hours of the notifications' files that were written since a moment."""
    files = lake.actions("notifications", version).select(["partition.arrival_hour", "modification_time"])
    return {
        str(file["partition.arrival_hour"])
        for file in files.to_pylist()
        if times.EPOCH + timedelta(milliseconds=file["modification_time"]) >= moment
    }


def follow_samples(site: Site, findings: Findings) -> None:
    """Bring the catalog to the lake's samples, from the start if they went back.

    Raises:
        AlreadyRunning: another process is still running the catalog.
    """
    with site.warehouse.lease("catalog", wait_seconds=WAIT_SECONDS) as lease:
        try:
            history.check(site, catalog.FOLLOWER, catalog.TABLE, catalog.READER)
        except WentBack as error:
            with site.warehouse.begin() as connection:
                for table in conversion.TABLES:
                    used.forget(connection, table)
            done = catalog.start_over(site, lease, "the lake went back")
            findings.fixed(
                "catalog", f"{error.what}; {done.samples} samples are followed again, and all hours are recomputed"
            )
    done = catalog.catalog(site, wait_seconds=WAIT_SECONDS)
    if not findings.found("catalog"):
        findings.ok("catalog", f"{done.samples} samples were new to it")


def compute(site: Site, findings: Findings) -> None:
    """Recompute what is dirty, or differs between lake and warehouse.

    Raises:
        AlreadyRunning: another process is computing.
    """
    with (
        site.warehouse.lease("rollups", wait_seconds=WAIT_SECONDS),
        site.warehouse.lease("sample_quality", wait_seconds=WAIT_SECONDS),
    ):
        marked = sum(computed.reconcile(site, table) for table in computed.TABLES)
    done = roll_up(site, progress=keep_following(site))
    follow(site)
    if done.hours:
        why = f", {marked} of them because lake and warehouse were of different times" if marked else ""
        findings.fixed("roll-ups", f"{len(done.hours)} hours are recomputed{why}")
    else:
        findings.ok("roll-ups", "no hour is dirty")
