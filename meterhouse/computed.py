"""The lake's computed tables against the warehouse: `quarantine`, `rollups` and `derived`.

What a step computes goes to the lake and to the warehouse. If one of the two was restored, they no longer agree,
although no hour is dirty. So the warehouse records with each result at which commit the lake's table was. If the table
has commits that the record does not know, or lacks some that it knows, their hours become dirty.
"""

from contextlib import suppress
from datetime import date
from typing import Literal

from sqlalchemy import Connection, update

from meterhouse import history, times
from meterhouse.errors import AlreadyRunning, Replaced
from meterhouse.site import Site
from meterhouse.stores.warehouse_tables import dirty_hours

Computed = Literal["quarantine", "rollups", "derived"]

TABLES: tuple[Computed, ...] = ("quarantine", "rollups", "derived")

WHY = "the lake and the warehouse were of different times"


def record(site: Site, connection: Connection, table: Computed) -> None:
    """Record the commit at which a table is now, in the transaction that stores the same results in the warehouse."""
    lake = site.lake
    history.record_position(connection, table, history.position(lake, table, lake.version(table)))


def reconcile(site: Site, table: Computed) -> int:
    """Make the hours dirty whose rows in the lake are not those that the warehouse has recorded; return how many.

    The caller holds the table's lease.
    """
    lake = site.lake
    reached = history.followed_position(site, table)
    now_at = history.position(lake, table, lake.version(table))
    if reached == now_at:
        return 0
    days = None if reached == history.Position() else _changed_days(site, table, reached, now_at.version)
    marked = 0
    with site.warehouse.begin() as connection:
        if reached != history.Position():  # otherwise nothing was recorded, and all hours with points are dirty
            marked = _mark(connection, table, days)
        history.record_position(connection, table, now_at)
    return marked


def reconcile_if_idle(site: Site) -> None:
    """Compare both tables with what the warehouse has recorded, unless a process is computing them."""
    with (
        suppress(AlreadyRunning),
        site.warehouse.lease("rollups"),
        site.warehouse.lease("sample_quality"),
    ):
        for table in TABLES:
            reconcile(site, table)


def _changed_days(site: Site, table: Computed, reached: history.Position, newest: int) -> set[date] | None:
    """The days whose rows changed after a position; None if it is not known, and may be any."""
    if not history.is_same_history(site.lake, table, reached):
        return None
    try:
        return {
            date.fromisoformat(action["partitionValues"]["event_day"])
            for commit in site.lake.commits(table, reached.version, newest)
            if commit.changes_data
            for action in (*commit.added, *commit.removed)
        }
    except (Replaced, KeyError, TypeError):  # the partition values of a removed file are optional in Delta
        known = site.lake.known_files(table, reached.version)
    if known is None:
        return None
    live = site.lake.actions(table, newest)
    before, now = (
        dict(zip(*(files[name].to_pylist() for name in ("path", "partition.event_day")), strict=True))
        for files in (known, live)
    )
    return {day for path, day in (before | now).items() if (path in before) != (path in now)}


def _mark(connection: Connection, table: Computed, days: set[date] | None) -> int:
    change: dict[str, object] = {"rolled_marks": 0, "why": WHY}
    if table == "quarantine":
        change = {"marks": dirty_hours.c.marks + 1, "marked_at": times.now(), "why": WHY}
    if days is None:
        return connection.execute(update(dirty_hours).values(**change)).rowcount
    marked = 0
    for day in days:
        start = times.day_start(day)
        of_day = dirty_hours.c.hour >= start, dirty_hours.c.hour < start + times.DAY
        marked += connection.execute(update(dirty_hours).where(*of_day).values(**change)).rowcount
    return marked
