"""What is due and nobody polls: by it an orchestrator knows when to start a run that polls."""

import socket
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy import ColumnElement, Connection, and_, func, or_, select

from meterhouse.polling.pollster import HOST_NAMESPACES
from meterhouse.settings import Settings
from meterhouse.site import Site
from meterhouse.stores import clock
from meterhouse.stores.warehouse_tables import poll_schedules, poll_tasks

FILE = "polling.yaml"


@dataclass(frozen=True)
class Waiting:
    """Tasks that are due and that no member has.

    Attributes:
        tasks: their number; 0: there is nothing to do.
        since: when the first of them was due, UTC; None if there is none.
    """

    tasks: int
    since: datetime | None


def waiting(site: Site, patience: timedelta) -> Waiting:
    """The tasks that a process here could poll and that have been due for longer than a while.

    A `polling.yaml` that no member has read yet counts as a task, due since the file was written.

    Args:
        site: the site.
        patience: how long members have to claim what is due.

    Raises:
        MeterhouseError: the warehouse cannot be read.
    """
    with site.warehouse.read() as connection:
        before = clock.present(connection) - patience
        counted = (_schedules(connection, site.settings, before), _tasks(connection, site.settings, before))
        known = connection.execute(select(poll_schedules.c.source).limit(1)).first()
    if known is None and (unread := _written_at(site.settings)) is not None:
        return Waiting(1, unread)
    return Waiting(
        sum(each.tasks for each in counted), min((each.since for each in counted if each.since), default=None)
    )


def _schedules(connection: Connection, settings: Settings, before: datetime) -> Waiting:
    """Slots that have begun and have no tasks yet."""
    c = poll_schedules.c
    begun = select(func.coalesce(func.sum(c.shards), 0), func.min(c.next_slot_at))
    return Waiting(*connection.execute(begun.where(c.active, c.next_slot_at <= before, _here(c.host, settings))).one())


def _tasks(connection: Connection, settings: Settings, before: datetime) -> Waiting:
    """Tasks that nobody has claimed, or whose owner has not renewed its lease."""
    c = poll_tasks.c
    since = func.coalesce(c.lease_until, c.due_at)
    free = or_(and_(c.state == "open", c.due_at <= before), and_(c.state == "claimed", c.lease_until <= before))
    found = select(func.count(), func.min(since)).where(free, _here(c.host, settings))
    return Waiting(*connection.execute(found).one())


def _here(host: ColumnElement[str], settings: Settings) -> ColumnElement[bool]:
    """Whether a process of this host may poll what tells of a host."""
    namespaces = frozenset(settings.poll_namespaces.split(","))
    any_member = [""] if namespaces - HOST_NAMESPACES else []
    own = [socket.gethostname()] if namespaces & HOST_NAMESPACES else []
    return host.in_(any_member + own)


def _written_at(settings: Settings) -> datetime | None:
    """When the site's own polling.yaml was written; None if there is none."""
    if settings.config_dir is None:
        return None
    try:
        return datetime.fromtimestamp((settings.config_dir / FILE).stat().st_mtime, UTC)
    except OSError:
        return None
