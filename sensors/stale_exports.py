"""The sensor of stale exports: what was recomputed is exported again, without anybody asking.

When it looks and what it asks for, `export_looks` says.
"""

from collections.abc import Mapping
from itertools import islice

import dagster as dg

from assets.partitions import has_month, has_partition
from assets.reports import REPORTS
from assets.resources import SiteResource
from meterhouse.queries import export_looks, report_files
from meterhouse.queries.export_states import StaleExport
from meterhouse.queries.report_files import Report
from meterhouse.site import Site
from sensors.active_runs import is_running, next_key
from sensors.jobs import report_day, report_month
from sensors.leading import skips_unless_leading

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
@skips_unless_leading
def stale_exports_sensor(context: dg.SensorEvaluationContext, site: SiteResource) -> dg.SensorResult:
    memory = export_looks.Memory.read(context.cursor)
    export_looks.look(site.get(), memory)
    queries = {name: report.query for name, report in _readable(site.get()).items()}
    keys: dict[str, str] = {}
    stale = export_looks.wanted(site.get(), memory, lambda each: _is_free(context, each, keys), queries)
    requests = [_request(each, keys) for each in islice(stale, RUNS_AT_ONCE)]
    left = "no stale export is to be made now"
    return dg.SensorResult(run_requests=requests, cursor=memory.write(), skip_reason=None if requests else left)


def _readable(site: Site) -> dict[str, Report]:
    """The reports that are assets and whose files can be run now."""
    now = report_files.listed(site.settings.config_dir)
    return {name: now[name] for name in REPORTS if name in now and not now[name].fault}


def _place(each: StaleExport) -> tuple[str, bool]:
    """The name of the job that makes an export, and whether its partition is one of the job's."""
    first, by_day = each.start.date(), REPORTS[each.report].partition == "day"
    fits = len(each.partition) == len("2026-11-20" if by_day else "2026-11")  # else something else exported it then
    if by_day:
        return report_day.name, fits and has_partition(first)
    return report_month.name, fits and has_month(first)


def _tag(each: StaleExport) -> dict[str, str]:
    return {EXPORT: f"{each.report}/{each.partition}"}


def _is_free(context: dg.SensorEvaluationContext, each: StaleExport, keys: dict[str, str]) -> bool:
    """Whether no run makes an export; `keys` gets the key of the next one."""
    job, shown = _place(each)
    if shown:
        keys[_tag(each)[EXPORT]] = next_key(context, job, _tag(each))
    return shown and not is_running(context, job, _tag(each))


def _request(each: StaleExport, keys: Mapping[str, str]) -> dg.RunRequest:
    job, _ = _place(each)
    return dg.RunRequest(
        run_key=keys[_tag(each)[EXPORT]],
        job_name=job,
        partition_key=each.partition,
        asset_selection=[dg.AssetKey(each.report)],
        tags=_tag(each),
    )
