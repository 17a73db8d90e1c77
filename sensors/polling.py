"""The poll sensor: starts runs of `poll` for what is due and no member polls."""

import math
from datetime import timedelta

import dagster as dg

from assets.resources import SiteResource
from meterhouse.polling.waiting import waiting
from sensors.active_runs import STEP, next_key, running_steps
from sensors.jobs import poll
from sensors.leading import skips_unless_leading

PATIENCE = timedelta(seconds=2)
"""How long members have to claim what is due, before a run is started."""


@dg.sensor(
    job=poll,
    minimum_interval_seconds=4,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Starts `poll` if tasks are due that no member has claimed: as many runs as it takes, at most "
    "METERHOUSE_POLL_RUNS.",
)
@skips_unless_leading
def poll_sensor(context: dg.SensorEvaluationContext, site: SiteResource) -> dg.SkipReason | list[dg.RunRequest]:
    here = site.get()
    limit = here.settings.poll_runs
    if not limit:
        return dg.SkipReason("METERHOUSE_POLL_RUNS is 0: only members poll")
    names = ["poll", *(f"poll {number}" for number in range(2, limit + 1))]
    keys = {name: next_key(context, poll.name, {STEP: name}) for name in names}
    steps = running_steps(context, poll.name)
    if len(steps) >= limit:
        running = "a run of poll is" if limit == 1 else f"{len(steps)} runs of poll are"
        return dg.SkipReason(f"{running} already running")
    due = waiting(here, PATIENCE)
    if not due:
        return dg.SkipReason("nothing is due that no member polls")
    wanted = math.ceil(due / here.settings.poll_concurrency)
    free = [name for name in names if name not in steps][:wanted]
    return [dg.RunRequest(run_key=keys[name], tags={STEP: name, "meterhouse/due": str(due)}) for name in free]
