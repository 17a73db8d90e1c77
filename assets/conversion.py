"""Conversion: notifications become samples and events, and the catalog of series and resources follows."""

from collections import Counter
from collections.abc import Iterator

import dagster as dg

from assets import figures
from assets.collection import notifications
from assets.resources import RETRIES, SiteResource
from meterhouse.catalog import catalog as follow
from meterhouse.conversion import convert
from meterhouse.drift import drifted

OWNERS = ["team:telemetry"]


@dg.multi_asset(
    specs=[
        dg.AssetSpec(
            "samples",
            deps=[notifications],
            description="Measurements of resources, made from notifications by the meter definitions, by arrival hour.",
            group_name="conversion",
            kinds={"delta", "python"},
            owners=OWNERS,
        ),
        dg.AssetSpec(
            "events",
            deps=[notifications],
            description="What happened to resources, with the traits that the event definitions name, by arrival hour.",
            group_name="conversion",
            kinds={"delta", "python"},
            owners=OWNERS,
        ),
    ],
    retry_policy=RETRIES,
)
def conversion(site: SiteResource) -> Iterator[dg.MaterializeResult[None]]:
    here = site.get()
    done = convert(here)
    shared = {
        "notifications": done.notifications,
        "unsigned_samples": done.unsigned,
        "meters_left_out": done.meters_left_out,
        "first_errors": dg.MetadataValue.json(done.first_errors),
        "messages_per_second": round(done.notifications / done.seconds) if done.seconds else 0,
    }
    of_events = done.error_kinds["event"]
    gone = Counter(path.reader for path in drifted(here))
    for name, rows, moment, errors, reader in (
        ("samples", done.samples, "recorded_at", done.errors - of_events, "meter"),
        ("events", done.events, "generated", of_events, "event"),
    ):
        metadata = {
            "dagster/row_count": rows,
            "errors": errors,
            "drifted_paths": gone[reader],
            **shared,
            **figures.of_table(here, name),
            "lag_seconds": figures.lag_seconds(here, name, moment),
        }
        yield dg.MaterializeResult(asset_key=name, metadata=metadata)


@dg.asset(deps=["samples"], group_name="conversion", kinds={"sql", "duckdb"}, owners=OWNERS, retry_policy=RETRIES)
def catalog(site: SiteResource) -> dg.MaterializeResult[None]:
    """Series, resources and their metadata in the warehouse, and the event hours that new samples made dirty."""
    done = follow(site.get())
    return dg.MaterializeResult(
        metadata={
            "dagster/row_count": done.samples,
            "series": done.series,
            "resources": done.resources,
            "dirty_hours": done.hours,
            "late_points": done.late,
        }
    )
