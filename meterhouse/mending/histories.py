"""Followers whose table went back: they start over where the lake is now."""

from datetime import datetime, timedelta

from meterhouse import catalog, computed, history, times
from meterhouse.conversion import step as conversion
from meterhouse.errors import WentBack
from meterhouse.mending.findings import Findings
from meterhouse.rollups.step import roll_up
from meterhouse.site import Site
from meterhouse.stores.lake import Lake

WAIT_SECONDS = 60.0
"""How long to wait for a process that is running a step."""

_CLOCKS = timedelta(hours=1)
"""How far clocks may be apart: files that were written this long before the lost commit are looked at too."""


def convert_what_came_since(site: Site, findings: Findings) -> None:
    """Convert the notifications that came after the table went back, and then what else is not converted.

    Raises:
        AlreadyRunning: another process is still converting.
    """
    from meterhouse.conversion.convert import Converter

    lake, done = site.lake, conversion.Conversion()
    with site.warehouse.lease("convert", wait_seconds=WAIT_SECONDS) as lease:
        for table in conversion.TABLES:
            reached = conversion.converted_position(lake, table)
            if history.is_same_history(lake, "notifications", reached):
                continue
            newest = lake.version("notifications")
            converter = Converter.from_settings(site.settings, site.definitions)
            hours = _hours_since(lake, newest, times.EPOCH if reached.at is None else reached.at - _CLOCKS)
            conversion.convert_hours_of(site, lease, converter, table, hours, newest, done)
            findings.fixed(
                "conversion",
                f"notifications went back since they were converted to {table}; what came since is converted",
            )
    conversion.convert(site, wait_seconds=WAIT_SECONDS)
    if not findings.found("conversion"):
        findings.ok("conversion", "everything that was landed is converted")


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
    done = roll_up(site)
    if done.hours:
        why = f", {marked} of them because lake and warehouse were of different times" if marked else ""
        findings.fixed("roll-ups", f"{len(done.hours)} hours are recomputed{why}")
    else:
        findings.ok("roll-ups", "no hour is dirty")
