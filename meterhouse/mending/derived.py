"""Recomputes samples and events of arrival hours from their notifications, and says what has no source."""

from collections import Counter

import pyarrow as pa

from meterhouse.conversion import step as conversion
from meterhouse.mending.files import UNKNOWN, Lost
from meterhouse.mending.findings import Findings
from meterhouse.mending.leases import WAIT_SECONDS
from meterhouse.site import Site
from meterhouse.stores.lake_tables import CONVERTED, LOADED, MEASURED, POSTED

HINTS = {
    CONVERTED: "the notifications that they came from are gone too",
    POSTED: "the notifications that they were posted as are gone too",
    LOADED: "they were loaded: load the files again that you loaded in these hours",
    MEASURED: "they were measurements of the stream, which cannot be repeated",
    UNKNOWN: "their files do not say where they came from: load files again that you loaded in these hours",
}
"""Where lost samples came from → what that means."""


def recompute(site: Site, lost: dict[str, Lost], salvaged: dict[str, Counter[str]], findings: Findings) -> None:
    """Convert the hours again whose files are lost; report rows for which nothing is left."""
    for name in ("notifications", "dead_letters"):
        _report(name, lost[name].rows - salvaged[name], findings, "they are lost, unless their senders repeat them")
    hours = {hour for name in conversion.TABLES for hour in lost[name].rows}
    if not hours:
        return
    from meterhouse.conversion.again import convert_hours
    from meterhouse.conversion.convert import Converted, Converter

    made: dict[str, Counter[str]] = {name: Counter() for name in conversion.TABLES}
    with site.warehouse.lease("convert", wait_seconds=WAIT_SECONDS) as lease:
        converter = Converter.from_settings(site.settings, site.definitions)

        def keep(rows: pa.Table, found: Converted) -> None:
            conversion.keep_beside(site, lease, rows, found)

        for hour in sorted(hours):
            wanted = [name for name in conversion.TABLES if hour in lost[name].rows]
            added = convert_hours(
                site,
                lease,
                converter,
                [hour],
                wanted,
                keep,
            )
            for name, number in added.items():
                made[name][hour] += number
    for name in conversion.TABLES:
        if total := made[name].total():
            findings.fixed("conversion", f"{total} {name} are made again from their notifications")
        hint = "they did not come from notifications that are left"
        if name == "samples":
            hint = "; ".join(HINTS[origin] for origin in sorted(lost[name].origins))
        _report(name, lost[name].rows - salvaged[name] - made[name], findings, hint)


def _report(name: str, missing: Counter[str], findings: Findings, hint: str) -> None:
    if missing.total():
        hours = ", ".join(sorted(missing))
        findings.failed("lake files", f"{name}: {missing.total()} rows of the arrival hours {hours} are gone; {hint}")
