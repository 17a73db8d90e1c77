"""Alarms: their evaluation, the delivery of their notifications, and checks that tell which of them fire."""

from collections.abc import Iterator

import dagster as dg

from assets.event_days import ROLLUPS
from assets.resources import RETRIES, SiteResource
from meterhouse import plots, times
from meterhouse.alarms.definitions.alarm import SEVERITIES
from meterhouse.alarms.delivery.deliver import Delivered, deliver
from meterhouse.alarms.evaluation.cycle import evaluate_all
from meterhouse.alarms.evaluation.evaluate import last_transition
from meterhouse.alarms.keeping.firing import firing, last_transitions

OWNERS = ["team:telemetry"]


@dg.asset(deps=[ROLLUPS], group_name="alarms", kinds={"sql", "duckdb"}, owners=OWNERS, retry_policy=RETRIES)
def alarm_evaluations(context: dg.AssetExecutionContext, site: SiteResource) -> dg.MaterializeResult[None]:
    """The state of every alarm by its latest good points. State, history and outbox change in one transaction."""
    done = evaluate_all(site.get())
    for fault in done.faults:
        context.log.error(fault)
    return dg.MaterializeResult(
        data_version=version(site),
        metadata={
            "alarms": done.alarms,
            "states": dg.MetadataValue.md(plots.table(["state", "alarms"], sorted(done.states.items()))),
            "transitions": dg.MetadataValue.md(plots.table(["alarm", "from", "to"], done.transitions)),
            "last_transitions": dg.MetadataValue.md(_last_transitions(site)),
            "notifications": done.notifications,
            "faults": dg.MetadataValue.md("\n".join(f"- {fault}" for fault in done.faults) or "none"),
        },
    )


def _last_transitions(site: SiteResource) -> str:
    """The end of the alarms' history, also of event alarms, which the collecting process evaluates."""
    rows = [[times.text(moment), *others] for moment, *others in last_transitions(site.get())]
    return plots.table(["at", "alarm", "severity", "to", "reason"], rows)


FIRES = {severity: f"no_{severity}_alarm_fires" for severity in SEVERITIES}
"""Severity → the check of the alarms that have it."""


@dg.multi_asset_check(
    specs=[
        dg.AssetCheckSpec(
            name,
            asset=alarm_evaluations.key,
            description=f"No enabled alarm of severity {severity} that is not silenced is in the state alarm.",
        )
        for severity, name in FIRES.items()
    ],
    can_subset=True,  # each can be executed alone
)
def alarms_that_fire(context: dg.AssetCheckExecutionContext, site: SiteResource) -> Iterator[dg.AssetCheckResult]:
    """The selected checks. A critical alarm is an error, and others are warnings."""
    found = firing(site.get())
    selected = {key.name for key in context.selected_asset_check_keys}
    for severity, name in FIRES.items():
        if name not in selected:
            continue
        of = found[severity]
        rows = [[alarm, times.text(since), reason, project] for alarm, since, reason, project in of.listed]
        yield dg.AssetCheckResult(
            asset_key=alarm_evaluations.key,
            check_name=name,
            passed=not of.count,
            severity=dg.AssetCheckSeverity.ERROR if severity == "critical" else dg.AssetCheckSeverity.WARN,
            description=f"{of.count} alarms fire" + (f", {of.silenced} more are silenced" if of.silenced else ""),
            metadata={
                "firing": of.count,
                "silenced": of.silenced,
                "alarms": dg.MetadataValue.md(plots.table(["alarm", "since", "reason", "project"], rows)),
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
