"""Intake: collects notifications, converts them to samples and events, and catalogs these, in one step.

All three happen while the stream is drained, so that a long run delays nothing.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Any

import dagster as dg

from assets import figures
from assets.polling import POLLED
from assets.resources import RETRIES, SiteResource
from meterhouse import lateness, plots, times
from meterhouse.alarms.at_once import AtOnce
from meterhouse.collection import lag
from meterhouse.collection.collect import Collected, Limits
from meterhouse.collection.following import Followed, follow
from meterhouse.collection.intake import intake as run
from meterhouse.conversion.drift import drifted
from meterhouse.site import Site

OWNERS = ["team:telemetry"]
WAIT_SECONDS = 60.0

NOTIFICATIONS, SAMPLES, EVENTS, CATALOG = (
    dg.AssetKey(name) for name in ("notifications", "samples", "events", "catalog")
)


@dg.multi_asset(
    can_subset=True,
    specs=[
        dg.AssetSpec(
            NOTIFICATIONS,
            deps=[POLLED],
            description="Messages from the stream, each landed once, by arrival hour. A message that is not a "
            "notification becomes a dead letter.",
            group_name="collection",
            kinds={"delta", "rabbitmq"},
            owners=OWNERS,
            skippable=True,
        ),
        dg.AssetSpec(
            SAMPLES,
            deps=[NOTIFICATIONS],
            description="Measurements of resources, made from notifications by the meter definitions, by arrival hour.",
            group_name="conversion",
            kinds={"delta", "python"},
            owners=OWNERS,
            skippable=True,
        ),
        dg.AssetSpec(
            EVENTS,
            deps=[NOTIFICATIONS],
            description="What happened to resources, with the traits that the event definitions name, by arrival hour.",
            group_name="conversion",
            kinds={"delta", "python"},
            owners=OWNERS,
            skippable=True,
        ),
        dg.AssetSpec(
            CATALOG,
            deps=[SAMPLES],
            description="Series, resources and their metadata in the warehouse, and the event hours that new samples "
            "make dirty.",
            group_name="conversion",
            kinds={"sql", "duckdb"},
            owners=OWNERS,
            skippable=True,
        ),
    ],
    retry_policy=RETRIES,
)
def intake(context: dg.AssetExecutionContext, site: SiteResource) -> Iterator[dg.MaterializeResult[None]]:
    here = site.get()
    wanted = context.selected_asset_keys
    if NOTIFICATIONS in wanted:
        settings = here.settings
        limits = Limits(
            seconds=settings.collect_seconds,
            quiet_seconds=settings.collect_quiet_seconds,
            patience_seconds=settings.collect_seconds,
        )
        with AtOnce(here) as alarms:
            done = run(here, limits, came=alarms.came)
        yield dg.MaterializeResult(asset_key=NOTIFICATIONS, metadata=_of_collection(here, done.collected))
        followed = done.followed
    else:
        followed = follow(here, wait_seconds=WAIT_SECONDS)
        with AtOnce(here):
            pass  # it evaluates what came before
    for key, metadata in _of_following(here, followed):
        if key in wanted:
            yield dg.MaterializeResult(asset_key=key, metadata=metadata)


def _of_collection(site: Site, done: Collected) -> dict[str, Any]:
    return {
        "messages": done.messages,
        "dagster/row_count": done.landed,
        "redelivered": done.redelivered,
        "dead_letters": done.dead_letters,
        "bytes": done.bytes,
        "messages_per_second": round(done.rate),
        **figures.of_table(site, "notifications"),
        **figures.of_lag(lag.measure(site)),
    }


def _of_following(site: Site, done: Followed) -> Iterator[tuple[dg.AssetKey, dict[str, Any]]]:
    converted, catalogued = done.converted, done.catalogued
    shared = {
        "notifications": converted.notifications,
        "unsigned_samples": converted.unsigned,
        "meters_left_out": converted.meters_left_out,
        "first_errors": dg.MetadataValue.json(converted.first_errors),
        "messages_per_second": round(converted.notifications / converted.seconds) if converted.seconds else 0,
    }
    of_events = converted.error_kinds["event"]
    gone = Counter(path.reader for path in drifted(site))
    for key, rows, moment, errors, reader in (
        (SAMPLES, converted.samples, "recorded_at", converted.errors - of_events, "meter"),
        (EVENTS, converted.events, "generated", of_events, "event"),
    ):
        name = key.to_user_string()
        yield (
            key,
            {
                "dagster/row_count": rows,
                "errors": errors,
                "drifted_paths": gone[reader],
                **shared,
                **figures.of_table(site, name),
                "lag_seconds": figures.lag_seconds(site, name, moment),
            },
        )
    yield (
        CATALOG,
        {
            "dagster/row_count": catalogued.samples,
            "series": catalogued.series,
            "resources": catalogued.resources,
            "dirty_hours": catalogued.hours,
            "late_points": catalogued.late,
            "late_points_by_hour": dg.MetadataValue.md(_late_points(site)),
        },
    )


def _late_points(site: Site) -> str:
    """A plot of the points of the last two days that came late, by event hour; hours without points are gaps."""
    end = times.hour_of(times.now()) + times.HOUR
    start = end - 2 * times.DAY
    late = {hour: came.late for hour, came in lateness.by_hour(site, start, end).items()}
    title = f"late points an hour, after more than {site.settings.lateness_seconds} s"
    return plots.by_hour(late, start, end, title=title) or "no points in the last two days"
