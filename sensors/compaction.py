"""The compaction sensor: starts a run of `compact` if an arrival hour is over, or the running one has many files."""

import dagster as dg

from assets.resources import SiteResource
from meterhouse.archive.compaction import compact, due
from sensors.active_runs import STEP, is_running, next_key
from sensors.leading import skips_unless_leading


@dg.op
def merge_files(context: dg.OpExecutionContext, site: SiteResource) -> None:
    """Merge the files of arrival hours that are over, and the older ones of the running hour."""
    done = compact(site.get())
    context.log.info(
        f"compacted {done.hours} hours and tidied {done.tidied}: {done.files_before} files became {done.files}, "
        f"{done.bytes_before:,} bytes {done.bytes:,}; {done.duplicates} copies merged, {done.left} hours left"
    )


@dg.job(
    name="compact",
    tags={STEP: "compact", "dagster/max_retries": "0"},
    description="Merge the files of arrival hours that are over, and the older ones of the running hour.",
)
def compaction() -> None:
    merge_files()


@dg.sensor(
    job=compaction,
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Starts `compact` within minutes of the end of an arrival hour, or if the running one has many files.",
)
@skips_unless_leading
def compaction_sensor(context: dg.SensorEvaluationContext, site: SiteResource) -> dg.SkipReason | dg.RunRequest:
    key = next_key(context, compaction.name)
    if is_running(context, compaction.name):
        return dg.SkipReason("a run of compact is already running")
    tasks = due(site.get()).tasks
    return dg.RunRequest(run_key=key) if tasks else dg.SkipReason("no hour is to be compacted")
