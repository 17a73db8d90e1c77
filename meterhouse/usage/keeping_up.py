"""How far the periods are behind the lake, and which resources nobody but events has told of."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import func, select

from meterhouse import history, times
from meterhouse.errors import Replaced
from meterhouse.site import Site
from meterhouse.stores.warehouse_tables import resource_periods
from meterhouse.usage import evidence
from meterhouse.usage.periods import OF_EVIDENCE, OF_ROLLUPS

CONFIRMED_BY: Final = timedelta(days=2)
"""A resource that exists for longer has been in an audit, if there are audits of its type: they are at least daily."""


_EXISTS: Final = resource_periods.c.ended_at.is_(None)
_DOUBTED: Final = resource_periods.c.unconfirmed.is_(True)


@dataclass(frozen=True)
class Behind:
    """What the step `periods` has not taken yet.

    Attributes:
        commits: how many commits of notifications, evidence and roll-ups, from the first one that changes rows.
        since: when the first of them was made, UTC; None if there is none, or the log no longer says.
    """

    commits: int = 0
    since: datetime | None = None


def behind(site: Site) -> Behind:
    """How far the periods are behind the lake. Commits that only move rows to other files count for nothing."""
    lake, commits, moments = site.lake, 0, list[datetime]()
    reached = {
        "notifications": lake.transaction(evidence.TABLE, evidence.APP) or 0,
        evidence.TABLE: history.followed_position(site, OF_EVIDENCE).version,
        "rollups": history.followed_position(site, OF_ROLLUPS).version,
    }
    for table, version in reached.items():
        newest = lake.version(table)
        try:
            for commit in lake.commits(table, version, newest):
                if commit.changes_data:
                    commits += newest - commit.version + 1
                    moments += [commit.at] if commit.at else []
                    break
        except Replaced:
            commits += newest - version
    return Behind(commits, min(moments, default=None))


def unconfirmed(site: Site) -> int:
    """How many resources exist of which only events have told."""
    query = select(resource_periods.c.resource_type, resource_periods.c.resource_id).where(_EXISTS, _DOUBTED)
    with site.warehouse.read() as connection:
        return connection.execute(select(func.count()).select_from(query.distinct().subquery())).scalar_one()


@dataclass(frozen=True)
class Confirmed:
    """The resources of a type that exist.

    Attributes:
        resource_type: the type.
        confirmed: how many were in an audit, or have samples.
        unconfirmed: how many are known by events alone.
        waiting: how many of these for longer than CONFIRMED_BY.
        first: the one of these that began first; None if there is none.
    """

    resource_type: str
    confirmed: int
    unconfirmed: int
    waiting: int
    first: str | None


def confirmed(site: Site) -> list[Confirmed]:
    """By type, in its order, how many of the resources that exist are confirmed."""
    table, before = resource_periods.c, times.now() - CONFIRMED_BY
    of_type = table.resource_type, func.count()
    with site.warehouse.read() as connection:
        known, doubted, waiting = (
            {row[0]: row[1] for row in connection.execute(select(*of_type).where(*conditions).group_by(of_type[0]))}
            for conditions in (
                (_EXISTS, ~_DOUBTED),
                (_EXISTS, _DOUBTED),
                (_EXISTS, _DOUBTED, table.started_at < before),
            )
        )
        first = {
            kind: connection.execute(
                select(table.resource_id)
                .where(_EXISTS, _DOUBTED, table.resource_type == kind)
                .order_by(table.started_at)
                .limit(1)
            ).scalar()
            for kind in waiting
        }
    return [
        Confirmed(kind, known.get(kind, 0), doubted.get(kind, 0), waiting.get(kind, 0), first.get(kind))
        for kind in sorted(known.keys() | doubted.keys())
    ]
