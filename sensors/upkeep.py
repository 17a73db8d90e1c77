"""The nightly upkeep: of the site, and of Dagster's own storage."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
from dagster._core.instance import RUNLESS_RUN_ID
from dagster._core.storage.event_log import SqlEventLogStorage, SqliteEventLogStorage
from dagster._core.storage.event_log.schema import (
    AssetCheckExecutionsTable,
    AssetEventTagsTable,
    SqlEventLogStorageTable,
)
from dagster._core.storage.runs import SqlRunStorage
from dagster._core.storage.runs.schema import RunsTable, RunTagsTable
from sqlalchemy import Connection, delete, func, inspect, select

from assets.resources import SiteResource
from meterhouse import times
from meterhouse.upkeep import upkeep as keep_up
from sensors.jobs import BACKGROUND

ENDED = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]

RUNS_AT_ONCE = 500

PRUNE_SECONDS = 1800.0
"""How long a night may take to delete runs. The next one continues."""

EVENTS_AT_ONCE = 5_000
"""Maximum number of events that one transaction deletes: with SQLite, runs cannot write meanwhile."""


@dg.op
def upkeep_of_site(context: dg.OpExecutionContext, site: SiteResource) -> None:
    """Delete what is older than the settings METERHOUSE_KEEP_* say, and files that nothing refers to."""
    done = keep_up(site.get())
    context.log.info("; ".join(f"{part}: deleted {count}" for part, count in done.deleted.items()))
    done.check()


@dg.op
def upkeep_of_dagster(context: dg.OpExecutionContext, site: SiteResource) -> None:
    """Delete old runs with their events and logs: Dagster keeps them for ever, and slows down."""
    before = times.now() - timedelta(days=site.get().settings.keep_dagster_days)
    context.log.info(f"deleted {prune(context.instance, before)} runs")


@dg.job(tags=BACKGROUND, description="Delete what is older than it is kept for, in the site and in Dagster's storage.")
def upkeep() -> None:
    upkeep_of_site()
    upkeep_of_dagster()


def prune(instance: dg.DagsterInstance, before: datetime) -> int:
    """Delete the runs that ended and were created before a time, and return how many.

    Their events, logs and check results go too. Of a partition's materializations the newest stays, so that the
    partition still counts as materialized.
    """
    deleted = 0
    old = dg.RunsFilter(statuses=ENDED, created_before=before)
    end = time.monotonic() + PRUNE_SECONDS
    while time.monotonic() < end and (runs := instance.get_runs(old, limit=RUNS_AT_ONCE, ascending=True)):
        for run in runs:
            _delete_run(instance, run.run_id)
        deleted += len(runs)
    _delete_files_without_a_run(instance, before)
    _delete_rows(instance, before)
    return deleted


def _delete_run(instance: dg.DagsterInstance, run_id: str) -> None:
    events = instance.event_log_storage
    instance.compute_log_manager.delete_logs(prefix=[run_id])
    if isinstance(events, SqliteEventLogStorage):  # a database for each run, which would stay as an empty one
        instance.run_storage.delete_run(run_id)
        shard = Path(events.path_for_shard(run_id))
        for path in (shard, shard.with_name(f"{shard.name}-wal"), shard.with_name(f"{shard.name}-shm")):
            path.unlink(missing_ok=True)
    elif isinstance(events, SqlEventLogStorage):
        instance.run_storage.delete_run(run_id)
    else:
        instance.delete_run(run_id)


def _delete_files_without_a_run(instance: dg.DagsterInstance, before: datetime) -> None:
    """Delete databases of runs that are no more, as releases before this one left them."""
    events, runs = instance.event_log_storage, instance.run_storage
    if not isinstance(events, SqliteEventLogStorage) or not isinstance(runs, SqlRunStorage):
        return
    shards = list(Path(events.path_for_shard("any")).parent.glob("*-*-*-*-*.db*"))
    with runs.connect() as connection:
        known = set(connection.execute(select(RunsTable.c.run_id)).scalars())
    for path in shards:
        with suppress(FileNotFoundError):
            if path.name.partition(".")[0] not in known and path.stat().st_mtime < before.timestamp():
                path.unlink()


def _delete_rows(instance: dg.DagsterInstance, before: datetime) -> None:
    """Delete rows that belong to no run any more, or never did: events, results of checks, tags."""
    if isinstance(events := instance.event_log_storage, SqlEventLogStorage):
        moment = before.astimezone(UTC).replace(tzinfo=None)  # as Dagster stores it
        _delete_events(lambda: events.run_connection(RUNLESS_RUN_ID), moment)  # SQLite: a database of its own
        _delete_events(events.index_connection, moment)
        checks = AssetCheckExecutionsTable
        with events.index_connection() as connection:
            connection.execute(delete(checks).where(checks.c.create_timestamp < moment))
    if isinstance(runs := instance.run_storage, SqlRunStorage):
        with runs.connect() as connection:
            connection.execute(delete(RunTagsTable).where(RunTagsTable.c.run_id.not_in(select(RunsTable.c.run_id))))


def _delete_events(connect: Callable[[], AbstractContextManager[Connection]], before: datetime) -> None:
    """Delete the events from before a time, but for the newest materialization of each partition."""
    event, tags = SqlEventLogStorageTable.c, AssetEventTagsTable
    newest = (
        select(func.max(event.id))
        .where(event.dagster_event_type == dg.DagsterEventType.ASSET_MATERIALIZATION.value)
        .where(event.partition.is_not(None))
        .group_by(event.asset_key, event.partition)
    )
    with connect() as connection:
        kept = set(connection.execute(newest).scalars())
    last = 0
    while True:
        old = select(event.id).where(event.id > last, event.timestamp < before).order_by(event.id).limit(EVENTS_AT_ONCE)
        with connect() as connection:
            found = connection.execute(old).scalars().all()
            chosen = [each for each in found if each not in kept]
            if chosen:
                connection.execute(delete(SqlEventLogStorageTable).where(event.id.in_(chosen)))
                if inspect(connection).has_table(tags.name):
                    connection.execute(delete(tags).where(tags.c.event_id.in_(chosen)))
        if len(found) < EVENTS_AT_ONCE:
            return
        last = found[-1]
