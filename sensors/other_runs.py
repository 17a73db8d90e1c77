"""The sensor of other runs: shows in Dagster what commands, collectors and Airflow did.

Each step records its figures in the warehouse's `runs`, whoever calls it. A command therefore needs no Dagster, and
nothing is reported twice: steps in a run of Dagster are recorded with that run, and left out here.
"""

import json
from collections.abc import Callable, Iterator, Mapping
from datetime import date
from typing import Any

import dagster as dg
from sqlalchemy import select

from assets.archive import archive
from assets.event_days import ROLLUPS, SAMPLE_QUALITY, of_days
from assets.intake import CATALOG, EVENTS, NOTIFICATIONS, SAMPLES
from assets.partitions import has_month, has_partition
from assets.reports import REPORTS
from assets.resources import SiteResource
from assets.usage import RESOURCE_PERIODS
from assets.usage import of_days as of_periods
from meterhouse.site import Site
from meterhouse.stores.warehouse_tables import runs
from sensors.leading import skips_unless_leading

RUNS_AT_ONCE = 200
"""Maximum number of runs that one tick reports."""

Events = Iterator[tuple[dg.AssetKey, str | None, dict[str, Any]]]
"""Asset, partition and metadata of each event."""


def _of_days(asset: dg.AssetKey) -> Callable[[Site, Mapping[str, Any]], Events]:
    return lambda site, done: ((asset, day, metadata) for day, metadata in of_days(site, asset, done))


def _of_collect(site: Site, done: Mapping[str, Any]) -> Events:
    names = ("messages", "redelivered", "dead_letters", "bytes")
    yield NOTIFICATIONS, None, {"dagster/row_count": done["landed"], **{name: done[name] for name in names}}


def _of_convert(site: Site, done: Mapping[str, Any]) -> Events:
    of_events = done["error_kinds"].get("event", 0)
    for asset, name, errors in ((SAMPLES, "samples", done["errors"] - of_events), (EVENTS, "events", of_events)):
        metadata = {"dagster/row_count": done[name], "errors": errors, "notifications": done["notifications"]}
        yield asset, None, metadata


def _of_catalog(site: Site, done: Mapping[str, Any]) -> Events:
    names = ("series", "resources", "late")
    metadata = {"dagster/row_count": done["samples"], "dirty_hours": done["hours"]}
    yield CATALOG, None, {**metadata, **{name: done[name] for name in names}}


def _of_periods(site: Site, done: Mapping[str, Any]) -> Events:
    for day, metadata in of_periods(site, done):
        yield RESOURCE_PERIODS, day, metadata


def _of_archive(site: Site, done: Mapping[str, Any]) -> Events:
    if has_partition(date.fromisoformat(done["day"])):
        yield archive.key, done["day"], {"dagster/row_count": done["rows"], "bytes": done["bytes"]}


def _of_report(site: Site, done: Mapping[str, Any]) -> Events:
    if done["report"] not in REPORTS:
        return
    if "day" in done:
        key, shown = done["day"], has_partition(date.fromisoformat(done["day"]))
    else:
        key, shown = done["month"], has_month(date.fromisoformat(f"{done['month']}-01"))
    if shown:
        yield dg.AssetKey(done["report"]), key, {"dagster/row_count": done["rows"]}


STEPS: dict[str, Callable[[Site, Mapping[str, Any]], Events]] = {
    "collect": _of_collect,
    "convert": _of_convert,
    "catalog": _of_catalog,
    "sample_quality": _of_days(SAMPLE_QUALITY),
    "rollups": _of_days(ROLLUPS),
    "periods": _of_periods,
    "archive": _of_archive,
    "report": _of_report,
}
"""Step → the events of what it did."""


def other_runs(site: Site, after: int) -> tuple[list[dg.AssetMaterialization], int]:
    """What was done outside Dagster's runs after a place in the sequence of `runs`, and the place up to which this is.

    Runs that were recorded before an upgrade to this release are left out: it is not known who did them.
    """
    query = (
        select(runs.c.sequence, runs.c.step, runs.c.started_at, runs.c.figures, runs.c.dagster_run)
        .where(runs.c.sequence > after)
        .order_by(runs.c.sequence)
        .limit(RUNS_AT_ONCE)
    )
    with site.warehouse.read() as connection:
        found = connection.execute(query).all()
    events = []
    for run in found:
        if run.dagster_run is not None or run.step not in STEPS:
            continue
        started = {"started_at": dg.MetadataValue.timestamp(run.started_at)}
        for asset, partition, metadata in STEPS[run.step](site, json.loads(run.figures)):
            events.append(dg.AssetMaterialization(asset, partition=partition, metadata={**started, **metadata}))
    return events, found[-1].sequence if found else after


@dg.sensor(
    minimum_interval_seconds=9,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Reports what commands, collectors and Airflow did as materializations without a run.",
)
@skips_unless_leading
def other_runs_sensor(context: dg.SensorEvaluationContext, site: SiteResource) -> dg.SensorResult:
    before = int(context.cursor or 0)
    events, after = other_runs(site.get(), before)
    return dg.SensorResult(
        asset_events=events,
        cursor=str(after),
        skip_reason=f"reported {len(events)} materializations" if events else "nothing was done outside Dagster's runs",
    )
