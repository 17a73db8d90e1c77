"""Rows of the warehouse that the lake has too: what is missing or differs there is derived again."""

from collections.abc import Mapping
from datetime import datetime

import pyarrow as pa
from sqlalchemy import func, select, update

from meterhouse import catalog, times
from meterhouse.conversion import step as conversion
from meterhouse.mending.findings import Findings
from meterhouse.mending.leases import WAIT_SECONDS, held
from meterhouse.rollups.following import follow, left_out
from meterhouse.site import Site
from meterhouse.stores.lake_faults import retried
from meterhouse.stores.warehouse_tables import (
    daily,
    dirty_hours,
    hourly,
    quality_daily,
    resource_metadata,
    resources,
    series,
)
from meterhouse.verification import VERIFY

NOTIFICATIONS_AT_ONCE = 20_000


@retried
def mend_warehouse(site: Site, findings: Findings) -> None:
    """Register what the lake's samples have and the warehouse lacks, and mark the hours whose figures differ.

    Raises:
        AlreadyRunning: another process is still running a step.
    """
    catalogued = _catalog(site)
    metadata = _metadata(site)
    with held(site, ("rollups", "sample_quality")):
        follow(site)
        differing = _mark(site)
    if catalogued:
        findings.fixed("warehouse", f"{catalogued} series, resources or hours of the lake's samples were missing")
    if metadata:
        findings.fixed("warehouse", f"{metadata} texts of metadata were missing, and are read from notifications again")
    if differing:
        findings.fixed("warehouse", f"{differing} hours have other figures than the lake, and are recomputed")
    if not findings.found("warehouse"):
        findings.ok("warehouse", "it has what the lake has")


def _catalog(site: Site) -> int:
    """Add the series, resources and event hours that are missing; return how many."""
    lake = site.lake
    with site.warehouse.read() as connection:
        hours = set(connection.execute(select(dirty_hours.c.hour)).scalars())
        known = set(connection.execute(select(series.c.series_id)).scalars())
        there = {(row[0], row[1]) for row in connection.execute(select(resources.c.source, resources.c.resource_id))}
    with lake.connect() as duck:
        lake.view(duck, "samples", lake.files("samples"))
        found = duck.execute("SELECT DISTINCT series_id FROM samples").fetchall()
        lacking = {row[0] for row in found} - known
        found = duck.execute(
            "SELECT DISTINCT source, resource_id FROM samples WHERE resource_id IS NOT NULL"
        ).fetchall()
        unknown = {(row[0], row[1]) for row in found} - there
        found = duck.execute("SELECT DISTINCT date_trunc('hour', timestamp) FROM samples").fetchall()
        unmarked = {row[0] for row in found} - hours
    if lacking or unknown:
        with site.warehouse.lease("catalog", wait_seconds=WAIT_SECONDS) as lease:
            catalog.start_over(site, lease, "the warehouse did not know all series")
    elif unmarked:
        with site.warehouse.begin() as connection:
            catalog.mark_dirty(connection, sorted(unmarked), "the warehouse did not know this hour")
    return len(lacking) + len(unknown) + len(unmarked)


def _metadata(site: Site) -> int:
    """Read missing metadata from the notifications of the hours whose samples refer to it; return how many."""
    lake = site.lake
    with site.warehouse.read() as connection:
        known = list(connection.execute(select(resource_metadata.c.metadata_id)).scalars())
    with lake.connect() as duck:
        lake.view(duck, "samples", lake.files("samples"))
        duck.register("known", pa.table({"metadata_id": pa.array(known, pa.int64())}))
        found = duck.execute(
            "SELECT metadata_id, any_value(arrival_hour) FROM samples ANTI JOIN known USING (metadata_id) "
            "WHERE metadata_id IS NOT NULL GROUP BY metadata_id"
        ).fetchall()
    if not found:
        return 0
    from meterhouse.conversion.convert import Converter

    converter = Converter.from_settings(site.settings, site.definitions)
    with site.warehouse.lease("convert", wait_seconds=WAIT_SECONDS) as lease:
        for hour in sorted({row[1] for row in found}):
            for notifications in lake.pieces("notifications", {"arrival_hour": [hour]}, NOTIFICATIONS_AT_ONCE):
                conversion.keep_metadata(lease, converter.convert(notifications).metadata)
    with site.warehouse.read() as connection:
        number = connection.execute(select(func.count()).select_from(resource_metadata)).scalar_one()
    return number - len(known)


def _mark(site: Site) -> int:
    """Mark the hours whose roll-ups or flagged points are not those of the lake; return how many."""
    lake = site.lake
    with lake.connect() as duck:
        lake.view(duck, "rollups", lake.files("rollups"))
        lake.view(duck, "quarantine", lake.files("quarantine"))
        duck.register("left_out", pa.table({"series_id": left_out(site)}))
        totals = (
            "SELECT bucket, count(*), sum(count)::BIGINT FROM rollups ANTI JOIN left_out USING (series_id) "
            "WHERE granularity_s = {} GROUP BY bucket"
        )
        of_hours = {row[0]: row[1:] for row in duck.execute(totals.format(3600)).fetchall()}
        of_days = {row[0]: row[1:] for row in duck.execute(totals.format(86400)).fetchall()}
        flagged = dict(
            duck.execute(
                "SELECT date_trunc('hour', timestamp), sum(len(reason_names))::BIGINT FROM quarantine "
                f"WHERE source IS DISTINCT FROM '{VERIFY}' GROUP BY ALL"
            ).fetchall()
        )
    with site.warehouse.begin() as connection:
        clean = dirty_hours.c.rolled_marks == dirty_hours.c.marks
        rolled = set(connection.execute(select(dirty_hours.c.hour).where(clean)).scalars())
        in_hours, in_days = (
            {
                row[0]: (row[1], int(row[2]))
                for row in connection.execute(
                    select(table.c.bucket, func.count(), func.sum(table.c.count)).group_by(table.c.bucket)
                )
            }
            for table in (hourly, daily)
        )
        listed = {
            row[0]: int(row[1])
            for row in connection.execute(
                select(quality_daily.c.hour, func.sum(quality_daily.c.flagged)).group_by(quality_daily.c.hour)
            )
        }
        other_days = {day.date() for day in _differing(of_days, in_days)}
        other = set(_differing(of_hours, in_hours)) | {hour for hour in rolled if hour.date() in other_days}
        unlisted = set(_differing(flagged, listed)) & rolled
        for hour in other & rolled:
            connection.execute(update(dirty_hours).where(dirty_hours.c.hour == hour).values(rolled_marks=0))
        for hour in unlisted:
            again = {"marks": dirty_hours.c.marks + 1, "marked_at": times.now()}
            connection.execute(update(dirty_hours).where(dirty_hours.c.hour == hour).values(**again))
    return len((other & rolled) | unlisted)


def _differing(one: Mapping[datetime, object], other: Mapping[datetime, object]) -> list[datetime]:
    return [key for key in one.keys() | other.keys() if one.get(key) != other.get(key)]
