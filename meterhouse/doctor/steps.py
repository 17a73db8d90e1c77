"""Checks of the steps: dirty hours, runs that have died, deliveries, and days that are not sealed."""

import json
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from sqlalchemy import Select, func, or_, select

from meterhouse import history, times
from meterhouse.doctor.findings import Finding, age
from meterhouse.errors import Replaced
from meterhouse.rollups.policy_changes import outdated
from meterhouse.site import Site
from meterhouse.stores.heartbeats import PREFIX, heartbeats
from meterhouse.stores.lake import is_append
from meterhouse.stores.lake_statistics import lacking
from meterhouse.stores.lake_tables import TABLES, columns_of_files
from meterhouse.stores.leases import FREE, held, holder
from meterhouse.stores.warehouse_tables import alarms, archive_manifest, deliveries, dirty_hours, erasures, runs

ERASING = "erase"
"""The lease of an erasure."""

STEPS = ("collect", "convert", "catalog", "sample_quality", "rollups", "archive")
UPKEEP_BY = timedelta(days=3)
"""The upkeep, which runs each night, is late this long after its last run."""
DAYS = 31
"""Number of past days that are checked for seals."""
SEALED_BY = timedelta(hours=26)
"""A day is sealed at 01:15 UTC of the next; it is late this long after its start and end."""


def newest(step: str) -> Select[Any]:
    """Looks up the newest run of a step. Runs are in the order of their sequence: a clock may have been set back."""
    return select(runs).where(runs.c.step == step).order_by(runs.c.sequence.desc()).limit(1)


def dirty(site: Site) -> Iterator[Finding]:
    """Whether event hours wait for judging and roll-up for longer than a message may wait in the stream."""
    is_dirty = or_(dirty_hours.c.marks > dirty_hours.c.judged_marks, dirty_hours.c.marks > dirty_hours.c.rolled_marks)
    with site.warehouse.read() as connection:
        count, marked = connection.execute(
            select(func.count(), func.min(dirty_hours.c.marked_at)).where(is_dirty)
        ).one()
        last = connection.execute(newest("rollups")).first()
        # A dirty hour that gets points all the time has a fresh mark, although it has waited since its first points.
        since = select(func.min(runs.c.ended_at)).where(runs.c.step == "catalog")
        first = connection.execute(since.where(runs.c.sequence > last.sequence) if last else since).scalar()
    if not count:
        yield Finding("dirty hours", "ok", "all event hours are rolled up")
        return
    waited = (times.now() - min(each for each in (marked, first) if each is not None)).total_seconds()
    hours = "1 event hour is" if count == 1 else f"{count} event hours are"
    said = f"{hours} dirty, the oldest for {age(waited)}; "
    ago = age((times.now() - last.started_at).total_seconds()) if last else ""
    said += f"the last roll-up began {ago} ago" if last else "no roll-up has run yet"
    if waited <= site.settings.stream_late_seconds:
        yield Finding("dirty hours", "ok", said)
    else:
        to_do = "see that Dagster's daemon and `dirty_hours_sensor` run, or run `meterhouse rollup`"
        yield Finding("dirty hours", "warning", said, to_do)


def unfinished_erasures(site: Site) -> Iterator[Finding]:
    """Whether an erasure of a user was killed. On a site where nobody was erased, there is nothing to say."""
    query = select(erasures.c.erasure_id, erasures.c.ended_at).order_by(erasures.c.erasure_id)
    with site.warehouse.read() as connection:
        known = connection.execute(query).all()
        running = holder(connection, ERASING)
    left = [row.erasure_id for row in known if row.ended_at is None]
    if left and not running:
        found = f"erasure {', '.join(map(str, left))} has not ended: data of the user is left"
        yield Finding("erasures", "warning", found, "run `meterhouse erase user` again, with the same id and texts")
    elif known:
        said = f"{len(known)} users were erased" if len(known) > 1 else "1 user was erased"
        yield Finding("erasures", "ok", said)


def policy_changes(site: Site) -> Iterator[Finding]:
    """Whether event hours were rolled up by archive policies or derived meters of the past."""
    hours = outdated(site)
    if not hours:
        yield Finding("policy changes", "ok", "no event hour waits for changed archive policies or derived meters")
        return
    said = "1 event hour was" if hours == 1 else f"{hours} event hours were"
    to_do = "the next roll-ups recompute those that the change concerns"
    yield Finding("policy changes", "ok", f"{said} rolled up by earlier archive policies or derived meters", to_do)


def steps(site: Site) -> Iterator[Finding]:
    """When each step last ran, and runs and leases whose process has died."""
    with site.warehouse.read() as connection:
        ran = {step: row.ended_at for step in STEPS if (row := connection.execute(newest(step)).first())}
        leases = {
            name: lease
            for name, lease in held(connection, "").items()
            if lease.holder != FREE and not name.startswith(PREFIX)
        }
    dead = [(f"run {name[:8]}", lease) for name, lease in heartbeats(site.warehouse).items()]
    dead += [(f"step '{name}'", lease) for name, lease in leases.items()]
    lost = [(name, lease) for name, lease in dead if lease.died or lease.silent]
    for name, lease in lost:
        how = "has died" if lease.died else "no longer renews its lease"
        said = f"{name}: its process ({lease.holder}) {how}"
        yield Finding(
            "runs", "warning", said, "see that Dagster's daemon and `dead_runs_sensor` run, or run the step again"
        )
    if not lost:
        now = times.now()
        last = [f"{step} {age((now - ran[step]).total_seconds())}" for step in STEPS if step in ran]
        yield Finding("runs", "ok", f"ended last, ago: {', '.join(last)}" if last else "no step has run yet")


def evaluations(site: Site) -> Iterator[Finding]:
    """Whether the alarms are evaluated."""
    from meterhouse.alarms.keeping.cycles import evaluate_timestamp

    with site.warehouse.read() as connection:
        enabled, oldest = connection.execute(
            select(func.count(), func.min(func.coalesce(evaluate_timestamp(), alarms.c.timestamp))).where(
                alarms.c.enabled
            )
        ).one()
    if not enabled or oldest is None:
        yield Finding("evaluations", "ok", "no alarm is enabled")
        return
    waited = (times.now() - oldest).total_seconds()
    said = f"{enabled} alarms are enabled; all were evaluated in the last {age(waited)}"
    if waited <= site.settings.stream_late_seconds:
        yield Finding("evaluations", "ok", said)
    else:
        said = f"an enabled alarm was not evaluated for {age(waited)}"
        to_do = "see that Dagster's daemon and `alarms_each_minute` run, or run `meterhouse alarms evaluate`"
        yield Finding("evaluations", "warning", said, to_do)
    yield from _events_that_wait(site)


def _events_that_wait(site: Site) -> Iterator[Finding]:
    """What is wrong if event alarms do not follow the lake's events."""
    from meterhouse.alarms.keeping.watched_events import FOLLOWER

    reached = history.followed_position(site, FOLLOWER)
    if not reached.version:  # nobody follows events
        return
    try:
        commits = site.lake.commits("events", reached.version, site.lake.version("events"))
        oldest = next((each.at for each in commits if is_append(each)), None)
    except Replaced:  # they came so long ago that they were merged since
        oldest = reached.at
    if oldest is None or (waited := (times.now() - oldest).total_seconds()) <= site.settings.stream_late_seconds:
        return
    to_do = "see that a process collects, or run `meterhouse alarms evaluate`, which says what fails"
    yield Finding("evaluations", "warning", f"events wait for the evaluation of event alarms for {age(waited)}", to_do)


def outbox(site: Site) -> Iterator[Finding]:
    """Whether notifications are delivered."""
    with site.warehouse.read() as connection:
        found = {
            row.state: row
            for row in connection.execute(
                select(
                    deliveries.c.state,
                    func.count().label("number"),
                    func.min(deliveries.c.created_at).label("oldest"),
                    func.max(deliveries.c.attempts).label("attempts"),
                )
                .where(deliveries.c.state.in_(["pending", "dead"]))
                .group_by(deliveries.c.state)
            )
        }
    if dead := found.get("dead"):
        said = f"{dead.number} notifications were given up"
        yield Finding("deliveries", "warning", said, "see `last_error` in the table `deliveries`")
    if pending := found.get("pending"):
        waited = (times.now() - pending.oldest).total_seconds()
        said = f"{pending.number} notifications wait, the oldest for {age(waited)}"
        said += f", after up to {pending.attempts} attempts"
        if waited <= site.settings.stream_late_seconds:
            yield Finding("deliveries", "ok", said)
        else:
            to_do = "see `last_error` in the table `deliveries`, and that `webhook_sensor` runs"
            yield Finding("deliveries", "warning", said, to_do)
    if not found:
        yield Finding("deliveries", "ok", "no notification waits")


def sealed_days(site: Site) -> Iterator[Finding]:
    """Whether the arrival days that are over are sealed."""
    now = times.now()
    earliest = now - timedelta(days=DAYS)
    landed = {
        hour[:10]
        for table in ("notifications", "samples")
        for hour in site.lake.actions(table)["partition.arrival_hour"].to_pylist()
        if hour is not None
    }
    over = {day for day in landed if times.day_start(times.parse_day(day)) + SEALED_BY < now}
    with site.warehouse.read() as connection:
        query = select(archive_manifest.c.day).where(archive_manifest.c.day_over).distinct()
        sealed = {str(day) for day in connection.execute(query).scalars()}
    waiting = sorted(day for day in over - sealed if times.day_start(times.parse_day(day)) >= earliest)
    if waiting:
        days = f"{waiting[0]} is not sealed" if len(waiting) == 1 else f"{len(waiting)} days are not sealed"
        said = days if len(waiting) == 1 else f"{days}, the first is {waiting[0]}"
        to_do = f"run `meterhouse backfill archive --from {waiting[0]}`"
        yield Finding("archive", "warning", said, to_do)
    else:
        last = max(sealed, default="")
        yield Finding("archive", "ok", f"sealed up to {last}" if last else "no day is over yet")


def kept(site: Site) -> Iterator[Finding]:
    """Whether the upkeep runs, and what it could not do."""
    to_do = "see that Dagster's `upkeep_each_night` runs, or run `meterhouse upkeep` each day"
    with site.warehouse.read() as connection:
        first = connection.execute(select(func.min(runs.c.started_at))).scalar()
        latest = select(runs.c.ended_at, runs.c.figures).where(runs.c.step == "upkeep")
        last = connection.execute(latest.order_by(runs.c.started_at.desc()).limit(1)).first()
    now = times.now()
    since = last.ended_at if last else first
    failed = json.loads(last.figures)["failed"] if last else []
    if since is not None and now - since > UPKEEP_BY:
        said = f"the last upkeep ended {age((now - since).total_seconds())} ago" if last else "no upkeep has run yet"
        yield Finding("upkeep", "warning", f"{said}: what nobody needs piles up", to_do)
    elif failed:
        said = f"the last upkeep failed in part: {', '.join(failed)}"
        yield Finding("upkeep", "warning", said, "run `meterhouse upkeep`, which reports why")
    else:
        ended = f"ended {age((now - last.ended_at).total_seconds())} ago" if last else "no run yet"
        yield Finding("upkeep", "ok", ended)
    lack = sum(lacking(site.lake.actions(table), columns_of_files(table)).num_rows for table in TABLES)
    if lack:
        files = "1 data file lacks" if lack == 1 else f"{lack} data files lack"
        said = f"{files} statistics, so that filters of other engines may find too few rows"
        yield Finding("upkeep", "warning", said, "run `meterhouse upkeep`")
