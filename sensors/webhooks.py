"""The webhook sensor: delivers due alarm notifications itself, because starting a run would take seconds."""

import dagster as dg

from assets.alarms import alarm_evaluations, of_delivery, version, webhooks
from assets.health import key_of, verdict
from assets.resources import SiteResource
from meterhouse.alarms.delivery.deliver import deliver, due
from sensors.leading import skips_unless_leading

CHECK = "notifications_are_delivered"

# What Dagster itself adds to a materialization in a run: which version of the alarms was delivered.
DATA_VERSION_TAG, CODE_VERSION_TAG = "dagster/data_version", "dagster/code_version"
OF_ALARMS = f"dagster/input_data_version/{alarm_evaluations.key.to_user_string()}"


@dg.sensor(
    target=[webhooks],
    minimum_interval_seconds=4,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Sends the notifications in the outbox. Failed ones are retried after increasing pauses.",
)
@skips_unless_leading
def webhook_sensor(context: dg.SensorEvaluationContext, site: SiteResource) -> dg.SkipReason | dg.SensorResult:
    here = site.get()
    if not due(here):
        return dg.SkipReason("nothing is due")
    delivered = version(site).value
    done = deliver(here)
    passed, severity, found = verdict(site, CHECK)
    return dg.SensorResult(
        skip_reason=f"delivered {done.delivered}, failed {done.failed}, given up {done.dead}, waiting {done.pending}",
        asset_events=[
            dg.AssetMaterialization(
                "webhooks",
                metadata=of_delivery(done),
                tags={DATA_VERSION_TAG: delivered, OF_ALARMS: delivered, CODE_VERSION_TAG: "sensor"},
            ),
            # With the delivery, because a check that is older than its asset's materialization counts for nothing.
            dg.AssetCheckEvaluation(
                asset_key=key_of(CHECK).asset_key,
                check_name=CHECK,
                passed=passed,
                severity=severity,
                description=found,
            ),
        ],
    )
