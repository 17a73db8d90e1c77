"""What is due and nobody polls: by it an orchestrator knows when to start a run that polls."""

import socket
from datetime import datetime, timedelta

from sqlalchemy import Connection, and_, func, or_, select

from meterhouse.polling.pollster import hosts_of
from meterhouse.settings import Settings
from meterhouse.site import Site
from meterhouse.stores import clock
from meterhouse.stores.warehouse_tables import poll_schedules, poll_tasks

FILE = "polling.yaml"


def waiting(site: Site, patience: timedelta) -> int:
    """The number of tasks that a process here could poll and that have been due for longer than a while.

    A `polling.yaml` that no member has read yet counts as a task.

    Args:
        site: the site.
        patience: how long members have to claim what is due.

    Raises:
        MeterhouseError: the warehouse cannot be read.
    """
    hosts = hosts_of(frozenset(site.settings.poll_namespaces.split(",")), socket.gethostname())
    with site.warehouse.read() as connection:
        before = clock.present(connection) - patience
        due = _of_schedules(connection, hosts, before) + _of_tasks(connection, hosts, before)
        known = connection.execute(select(poll_schedules.c.source).limit(1)).first()
    return 1 if known is None and _has_files(site.settings) else due


def _of_schedules(connection: Connection, hosts: tuple[str, ...], before: datetime) -> int:
    """Of slots that have begun and have no tasks yet."""
    c = poll_schedules.c
    begun = select(func.coalesce(func.sum(c.shards), 0))
    return int(connection.execute(begun.where(c.active, c.next_slot_at <= before, c.host.in_(hosts))).scalar_one())


def _of_tasks(connection: Connection, hosts: tuple[str, ...], before: datetime) -> int:
    """Of tasks that nobody has claimed, or whose owner has not renewed its lease."""
    c = poll_tasks.c
    free = or_(and_(c.state == "open", c.due_at <= before), and_(c.state == "claimed", c.lease_until <= before))
    return connection.execute(select(func.count()).where(free, c.host.in_(hosts))).scalar_one()


def _has_files(settings: Settings) -> bool:
    """Whether the site has a polling.yaml of its own."""
    return settings.config_dir is not None and (settings.config_dir / FILE).exists()
