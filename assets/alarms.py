"""Alarms: their evaluation, and the delivery of their notifications."""

import dagster as dg

from assets.event_days import ROLLUPS
from assets.resources import RETRIES, SiteResource
from meterhouse import plots
from meterhouse.alarms.delivery.deliver import Delivered, deliver
from meterhouse.alarms.evaluation.evaluate import evaluate, last_transition

OWNERS = ["team:telemetry"]


@dg.asset(deps=[ROLLUPS], group_name="alarms", kinds={"sql", "duckdb"}, owners=OWNERS, retry_policy=RETRIES)
def alarm_evaluations(context: dg.AssetExecutionContext, site: SiteResource) -> dg.MaterializeResult[None]:
    """The state of every alarm by its latest good points. State, history and outbox change in one transaction."""
    done = evaluate(site.get())
    for fault in done.faults:
        context.log.error(fault)
    return dg.MaterializeResult(
        data_version=version(site),
        metadata={
            "alarms": done.alarms,
            "states": dg.MetadataValue.md(plots.table(["state", "alarms"], sorted(done.states.items()))),
            "transitions": dg.MetadataValue.md(plots.table(["alarm", "from", "to"], done.transitions)),
            "notifications": done.notifications,
            "faults": dg.MetadataValue.md("\n".join(f"- {fault}" for fault in done.faults) or "none"),
        },
    )


@dg.asset(deps=[alarm_evaluations], group_name="alarms", kinds={"webhook"}, owners=OWNERS, retry_policy=RETRIES)
def webhooks(site: SiteResource) -> dg.MaterializeResult[None]:
    """Notifications of alarm transitions. The webhook sensor delivers them from the outbox."""
    return dg.MaterializeResult(metadata=of_delivery(deliver(site.get())))


def version(site: SiteResource) -> dg.DataVersion:
    """The version of the alarms' state. Without it, each evaluation would make `webhooks` read as out of date."""
    return dg.DataVersion(str(last_transition(site.get())))


def of_delivery(done: Delivered) -> dict[str, float]:
    """What a delivery did, as metadata."""
    return {
        "delivered": done.delivered,
        "failed": done.failed,
        "given_up": done.dead,
        "waiting": done.pending,
        "seconds": done.seconds,
    }
