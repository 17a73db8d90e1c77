"""The sensor of stale exports: what was recomputed is exported again, without anybody asking."""

from collections.abc import Iterator
from itertools import islice

import dagster as dg

from assets.partitions import has_month, has_partition
from assets.reports import REPORTS
from assets.resources import SiteResource
from meterhouse.queries.export_states import StaleExport, note_stale
from sensors.active_runs import is_running
from sensors.jobs import report_day, report_month

RUNS_AT_ONCE = 10
"""Maximum number of runs that one tick starts."""

EXPORT = "meterhouse/export"
"""Run tag: the report and the partition that a run exports again."""


@dg.sensor(
    jobs=[report_day, report_month],
    minimum_interval_seconds=120,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Exports reports again of which hours, periods or names were recomputed since. Until then, the JSON "
    "files of these exports say that they are stale.",
)
def stale_exports_sensor(
    context: dg.SensorEvaluationContext, site: SiteResource
) -> dg.SkipReason | list[dg.RunRequest]:
    stale = [each for each in note_stale(site.get()) if each.report in REPORTS]
    requests = list(islice(_requests(context, stale), RUNS_AT_ONCE))
    if requests:
        return requests
    return dg.SkipReason(f"{len(stale)} stale exports are being made again" if stale else "no export is stale")


def _requests(context: dg.SensorEvaluationContext, stale: list[StaleExport]) -> Iterator[dg.RunRequest]:
    for each in reversed(stale):  # the newest first
        first, by_day = each.start.date(), REPORTS[each.report].partition == "day"
        if len(each.partition) != len("2026-11-20" if by_day else "2026-11"):
            continue  # the report was exported by something else then
        job, shown = (report_day, has_partition(first)) if by_day else (report_month, has_month(first))
        tag = {EXPORT: f"{each.report}/{each.partition}"}
        if shown and not is_running(context, job.name, tag):
            yield dg.RunRequest(
                job_name=job.name,
                partition_key=each.partition,
                asset_selection=[dg.AssetKey(each.report)],
                tags=tag,
            )
