"""The webhook sensor: delivers due alarm notifications itself, because starting a run would take seconds."""

import dagster as dg

from assets.resources import SiteResource
from meterhouse.alarms.deliver import deliver, due


@dg.sensor(
    minimum_interval_seconds=4,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Sends the notifications in the outbox. Failed ones are retried after increasing pauses.",
)
def webhook_sensor(context: dg.SensorEvaluationContext, site: SiteResource) -> dg.SkipReason | dg.SensorResult:
    here = site.get()
    if not due(here):
        return dg.SkipReason("nothing is due")
    done = deliver(here)
    return dg.SensorResult(
        skip_reason=f"delivered {done.delivered}, failed {done.failed}, given up {done.dead}, waiting {done.pending}",
        asset_events=[
            dg.AssetMaterialization(
                "webhooks",
                metadata={
                    "delivered": done.delivered,
                    "failed": done.failed,
                    "given_up": done.dead,
                    "waiting": done.pending,
                    "seconds": done.seconds,
                },
            )
        ],
    )
