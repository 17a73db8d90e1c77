"""Polled samples: what services, exporters and hosts answer, landed as notifications."""

import time
from typing import Any

import dagster as dg

from assets.resources import RETRIES, SiteResource
from meterhouse import plots
from meterhouse.polling.lateness import lateness

POLLED = dg.AssetKey("polled_samples")
COLUMNS = ["pollster", "intervals behind", "completely polled until"]
LISTED = 20
"""Number of pollsters that a materialization lists."""


@dg.asset(
    key=POLLED,
    description="Samples that pollsters ask services, exporters and hosts for, by polling.yaml. Each slot is polled "
    "once, or recorded as missed with the reason, by whichever member claims it: this run, or a `meterhouse poll`.",
    group_name="collection",
    kinds={"delta", "python"},
    owners=["team:telemetry"],
    retry_policy=RETRIES,
)
def polled_samples(site: SiteResource) -> dg.MaterializeResult[None]:
    from meterhouse.polling.bounded import poll_for

    here = site.get()
    began = time.monotonic()
    done = poll_for(here, here.settings.collect_seconds)
    late = lateness(here)
    rows = [(each.name, each.intervals, f"{each.since:%Y-%m-%d %H:%M:%S}") for each in late]
    metadata: dict[str, Any] = {
        "dagster/row_count": done.samples,
        "tasks": done.tasks,
        "resources": done.resources,
        "failed_attempts": done.failed,
        "given_up": done.missed,
        "seconds": round(time.monotonic() - began, 1),
        "pollsters": len(late),
        "intervals_behind": max((each.intervals for each in late), default=0),
        "pollsters_by_lateness": dg.MetadataValue.md(plots.table(COLUMNS, rows, LISTED)),
    }
    return dg.MaterializeResult(metadata=metadata)
