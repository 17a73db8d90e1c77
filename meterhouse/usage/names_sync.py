"""Reads names from the file, the landed notifications and Keystone into the warehouse."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import pyarrow as pa

from meterhouse import history, keystone, sql_files, times
from meterhouse.errors import DefinitionError, MeterhouseError, Replaced
from meterhouse.history import Position
from meterhouse.site import Site
from meterhouse.stores.duck import arrow
from meterhouse.stores.lake_faults import retried
from meterhouse.stores.leases import Lease
from meterhouse.usage import names_file
from meterhouse.usage.names import EVENT, KEYSTONE, LEASE, Seen, erased_of, merge, take_file

TABLE = "notifications"
FOLLOWER = "names"
"""The warehouse's name of what follows the notifications."""

ROWS_AT_ONCE = 20_000
"""Maximum number of notifications that are read together."""

FILES_AT_ONCE = 200_000
"""Files are taken together up to about this many notifications."""

_READ = ["timestamp", "received_at", "event_type", "body"]

Names = dict[tuple[str, str], list[Seen]]


@dataclass
class Synced:
    """What a run did.

    Attributes:
        file: names that the file has.
        messages: notifications that were read.
        keystone: names that Keystone has; None if no Keystone is set.
        changed: ids that got another name, or one at another time.
        faults: what could not be read, one line each.
        seconds: how long it took.
    """

    file: int = 0
    messages: int = 0
    keystone: int | None = None
    changed: int = 0
    faults: list[str] = field(default_factory=list)
    seconds: float = 0.0


def sync(site: Site, *, wait_seconds: float = 0.0) -> Synced:
    """Take up the names that the file, new notifications and Keystone have.

    What one of them lacks stops none of the others: a Keystone that does not answer is reported at the end.

    Args:
        site: the site.
        wait_seconds: how long to wait for another process that is running this step.

    Raises:
        AlreadyRunning: another process is still running this step after `wait_seconds`.
        Unavailable: Keystone does not answer; the other names are stored.
        MeterhouseError: Keystone refuses the account; the other names are stored.
    """
    started, clock, done = times.now(), time.monotonic(), Synced()
    with site.warehouse.lease(LEASE, wait_seconds=wait_seconds) as lease:
        try:
            given = names_file.load(site.settings.config_dir)
            done.file = take_file(site, lease, given)
            done.faults += [str(fault) for fault in given.faults]
        except DefinitionError as error:
            done.faults.append(f"{error}; its names of before stay")
        take_messages(site, lease, done)
        failed: MeterhouseError | None = None
        if site.settings.keystone_url:
            try:
                take_keystone(site, lease, done)
            except MeterhouseError as error:
                failed = error
        done.seconds = time.monotonic() - clock
        site.warehouse.record_run("names", started, vars(done))
    if failed is not None:
        raise failed
    return done


def take_keystone(site: Site, lease: Lease, done: Synced) -> None:
    """Store what Keystone calls its domains, projects and users now.

    Raises:
        MeterhouseError: Keystone does not answer, or refuses the account; nothing was stored.
    """
    erased, moment = erased_of(site), times.now()
    with keystone.session(site.settings) as session:
        seen: Names = {
            (each.kind, each.id): [Seen(each.name, each.domain_name, moment, moment)]
            for each in session.names()
            if each.kind != "user" or erased.pseudonym(each.id) is None
        }
        done.faults += session.faults
    with lease.begin() as connection:
        done.changed += merge(connection, KEYSTONE, seen)
    done.keystone = len(seen)


@retried
def take_messages(site: Site, lease: Lease, done: Synced) -> None:
    """Store the names in the notifications that were landed since the last run; in all of them if it is not known which
    these are, as after a restore."""
    reached = history.followed_position(site, FOLLOWER)
    if not history.is_same_history(site.lake, TABLE, reached):
        _take_all(site, lease, done)
        return
    while True:
        try:
            fresh = site.lake.appended_files(TABLE, reached.version, max_rows=FILES_AT_ONCE)
        except Replaced:
            _take_all(site, lease, done)
            return
        if fresh is None or (not fresh.files and fresh.version == reached.version):
            return
        seen = _seen(site, [file["path"] for file in fresh.files], done)
        reached = history.position(site.lake, TABLE, fresh.version)
        _store(lease, seen, reached, done)


def _take_all(site: Site, lease: Lease, done: Synced) -> None:
    reached = history.position(site.lake, TABLE, site.lake.version(TABLE))
    paths = site.lake.actions(TABLE, reached.version)["path"].to_pylist() if reached.version else []
    for path in paths:
        _store(lease, _seen(site, [path], done), None, done)
    _store(lease, {}, reached, done)


def _store(lease: Lease, seen: Names, reached: Position | None, done: Synced) -> None:
    with lease.begin() as connection:
        done.changed += merge(connection, EVENT, seen)
        if reached is not None:
            history.record_position(connection, FOLLOWER, reached)


def _seen(site: Site, paths: Sequence[str], done: Synced) -> Names:
    found: Names = {}
    for rows in _pieces(site, paths):
        done.messages += rows.num_rows
        named = names_in(site, rows)
        columns = (named[name].to_pylist() for name in named.column_names)
        for kind, number, name, domain, first_at, last_at in zip(*columns, strict=True):
            found.setdefault((kind, number), []).append(Seen(name, domain, _utc(first_at), _utc(last_at)))
    return found


def _pieces(site: Site, paths: Sequence[str]) -> Iterator[pa.Table]:
    for path in paths:
        yield from site.lake.pieces_of(TABLE, path, ROWS_AT_ONCE, _READ)


def names_in(site: Site, notifications: pa.Table) -> pa.Table:
    """The names in notifications: `kind`, `id`, `name`, `domain_name`, `first_at`, `last_at` (UTC), one row a name.

    Args:
        site: the site.
        notifications: rows of the lake's table.
    """
    with site.lake.connect() as duck:
        duck.register("landed", notifications.select(_READ))
        return arrow(duck, sql_files.read("lake/names_in_notifications.sql"))


def _utc(moment: datetime) -> datetime:
    return moment.astimezone(times.EPOCH.tzinfo)
