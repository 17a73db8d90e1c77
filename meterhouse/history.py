"""What one store knows of the other's history: up to which commit of a lake table the warehouse has followed it.

A version number alone does not say which history it counts: after a restore, the same number is another commit. So each
record has the commit's mark (see `stores/lake_commits.py`). Before a step uses a record, it compares the mark with the
lake's.
"""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, delete, insert, select

from meterhouse import times
from meterhouse.errors import WentBack
from meterhouse.site import Site
from meterhouse.stores.lake import MEND, Lake
from meterhouse.stores.warehouse_tables import followed


@dataclass(frozen=True)
class Position:
    """A commit of a table up to which a follower has read it.

    Attributes:
        version: its version; 0 where nothing was followed.
        mark: its mark; None if a release before these marks followed it.
        at: when it was committed, UTC; None if unknown.
    """

    version: int = 0
    mark: int | None = None
    at: datetime | None = None


def position(lake: Lake, table: str, version: int) -> Position:
    """The position of a version of a table as the lake has it now."""
    commit = lake.read_commit(table, version)
    return Position(version) if commit is None else Position(version, commit.mark, commit.at)


def followed_position(site: Site, follower: str) -> Position:
    """The position that the warehouse has recorded for a follower."""
    with site.warehouse.read() as connection:
        row = connection.execute(select(followed).where(followed.c.follower == follower)).first()
    return Position() if row is None else Position(row.version, row.mark, row.committed_at)


def kept_position(site: Site, follower: str) -> Position:
    """As `followed_position`, for queries: a server does not ask the warehouse while nothing has changed."""
    return site.kept.of_warehouse(("followed", follower), lambda: followed_position(site, follower))


def followed_positions(site: Site) -> set[int]:
    """The versions that the warehouse's followers of all tables have reached."""
    with site.warehouse.read() as connection:
        return set(connection.execute(select(followed.c.version)).scalars())


def record_position(connection: Connection, follower: str, reached: Position) -> None:
    """Record a follower's position, in the transaction that stores what was read up to it."""
    connection.execute(delete(followed).where(followed.c.follower == follower))
    connection.execute(
        insert(followed).values(follower=follower, version=reached.version, mark=reached.mark, committed_at=reached.at)
    )


def is_same_history(lake: Lake, table: str, reached: Position) -> bool:
    """Whether the lake's table still has the commit of a position, as far as its log says."""
    if reached.version == 0:
        return True
    if _has(lake, table, reached):
        return True
    lake.reopen(table)  # what this process knows of the table may be older than a restore
    if _has(lake, table, reached):
        return True
    return lake.read_commit(table, reached.version) is None and lake.version(table) >= reached.version


def _has(lake: Lake, table: str, reached: Position) -> bool:
    commit = lake.read_commit(table, reached.version)
    return commit is not None and reached.mark in (None, commit.mark)


def went_back(lake: Lake, table: str, reached: Position, reader: str) -> WentBack:
    """The error for a table that is not the one that was followed."""
    newest = position(lake, table, lake.version(table))
    when = f" of {times.text(reached.at)}" if reached.at else ""
    if newest.version < reached.version:
        ends = f" of {times.text(newest.at)}" if newest.at else ""
        what = (
            f"the lake's table {table} went back: {reader} had read it up to commit {reached.version}{when}, "
            f"and it now ends with commit {newest.version}{ends}"
        )
    else:
        what = (
            f"the lake's table {table} went back, and was written since: its commit {reached.version} is not the "
            f"commit{when} that {reader} had read"
        )
    return WentBack(what, where=lake.uri(table), hint=MEND)


def check(site: Site, follower: str, table: str, reader: str) -> Position:
    """The recorded position of a follower of the warehouse, after a comparison with the lake.

    Raises:
        WentBack: the table is not the one that was followed.
    """
    reached = followed_position(site, follower)
    if not is_same_history(site.lake, table, reached):
        raise went_back(site.lake, table, reached, reader)
    return reached
