"""Erases a user: the steps in order, each of which finds what is left to do.

1. The erasure is recorded, and the lake's list of erased users is written: from now on, what comes is without the user.
2. The leases of all steps that write are taken. What was landed before is converted and followed.
3. Series and metadata get their new rows in the warehouse, beside the old ones.
4. Rows of the lake are replaced, table by table, and then those of the warehouse, in one transaction.
5. Files of the spool and exported reports are replaced; data files and commits that are no longer needed are deleted.

If the process is killed between 4's commits, a roll-up may compute hours from both old and new ids, and miss the growth
of a counter at their start. So the next run makes the hours dirty that were rolled up since.
"""

import json
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from sqlalchemy import Connection, select

from meterhouse import computed, history, times
from meterhouse.alarms.keeping import apply as alarms
from meterhouse.archive.hours import RECIPES
from meterhouse.archive.seal import seal_again
from meterhouse.catalog import FOLLOWER, TABLE, catalog_under, mark_dirty
from meterhouse.conversion import redefine
from meterhouse.conversion.step import convert_under
from meterhouse.erasure import files, recorded, remains, warehouse_rows
from meterhouse.erasure.lake_rows import LakeRows, committed
from meterhouse.erasure.recorded import Erasure
from meterhouse.erasure.renamed import Renamed, refuse_joined, renamed
from meterhouse.errors import UsageError
from meterhouse.personal_data import Person
from meterhouse.progress import Progress, no_progress
from meterhouse.rollups import following
from meterhouse.site import Site
from meterhouse.stores import lake_erasures
from meterhouse.stores.lake_faults import retried
from meterhouse.stores.lake_tables import TABLES
from meterhouse.stores.leases import Lease
from meterhouse.stores.warehouse_tables import dirty_hours, erasures, resource_periods, series
from meterhouse.usage import names, names_sync, periods

LEASES: Final = (
    *("erase", "load", "archive", "compact", redefine.LEASE, "convert", "catalog", "rollups", "sample_quality"),
    *(periods.STEP, following.FOLLOWER, "dead_letters", alarms.LEASE, names.LEASE, "upkeep"),
)
"""Its own, and those of all steps that write, in an order in which no step that takes several waits for this one."""

WAIT_SECONDS: Final = 120.0
"""How long to wait for each step that is running."""

_TYPES_AT_ONCE: Final = 1 << 20


@dataclass
class Found:
    """What has personal data of a user, or had.

    Attributes:
        erasure: the record; one that is not recorded has the number that it would get.
        rows: by table, how many rows; `spool`: messages; `exports`: files.
        left: what a person has to look at.
        described: by field and value, in how many notifications and names it describes the user.
        deleted_files: how many data files were deleted.
    """

    erasure: Erasure
    rows: Counter[str] = field(default_factory=Counter)
    left: list[str] = field(default_factory=list)
    described: Counter[tuple[str, str]] = field(default_factory=Counter)
    deleted_files: int = 0


@retried
def preview(
    site: Site, erasure: Erasure, user_id: str, texts: Sequence[str] = (), *, progress: Progress = no_progress
) -> Found:
    """What an erasure would change, as far as steps have taken up what was landed; nothing is written.

    Raises:
        UsageError: a text is a word that figures are told by, such as the id of a project, or two series would become
            one.
    """
    person = Person(user_id, erasure.user.pseudonym, tuple(texts))
    _refuse(site, person)
    with site.warehouse.read() as connection:
        changes = renamed(connection, person)
        found = Found(erasure, warehouse_rows.counted(connection, person, changes))
        named = warehouse_rows.names_of(connection, person)
    lake = LakeRows(site, person, changes)
    lake.replace(progress)
    in_files = files.replace(site, person, dry_run=True)
    found.rows += lake.rows + in_files.counts
    found.left, found.described = in_files.left, lake.described + named
    return found


def erase(
    site: Site, erasure: Erasure, user_id: str, texts: Sequence[str] = (), *, progress: Progress = no_progress
) -> Found:
    """Erase a user, or continue to: see the module. What is erased already stays as it is.

    Args:
        site: the site.
        erasure: from `recorded.proposed`.
        user_id: the id.
        texts: further texts that are personal data of the user.
        progress: gets the lake's files that are done, and how many there are.

    Raises:
        UsageError: a text is a word that figures are told by, such as the id of a project, or two series would become
            one; nothing was changed.
        AlreadyRunning: a step is still running after WAIT_SECONDS.
        DefinitionError: what was landed cannot be converted.
        MeterhouseError: lake or warehouse cannot be used; a second call continues.
    """
    started = times.now()
    _refuse(site, Person(user_id, erasure.user.pseudonym, tuple(texts)))
    one = recorded.record(site, erasure)
    moment = _published(site)
    person = Person(user_id, one.user.pseudonym, tuple(texts))
    with _held(site) as leases:
        found = _erase(site, one, person, leases, moment, progress)
    for table in RECIPES:
        seal_again(site, table)
    done = recorded.find(site, one.erasure_id)
    figures = {"erasure": one.erasure_id, "rows": sum(found.rows.values()), "deleted_files": found.deleted_files}
    site.warehouse.record_run("erase", started, figures)
    return Found(done, found.rows, found.left, found.described, found.deleted_files)


def _erase(
    site: Site, one: Erasure, person: Person, leases: Mapping[str, Lease], moment: datetime, progress: Progress
) -> Found:
    lake = site.lake
    for lease in leases.values():
        lake.fence(lease, *TABLES)
    convert_under(site, leases["convert"])
    catalog_under(site, leases["catalog"])
    following.follow_under(site, leases[following.FOLLOWER], following.Following())
    periods.compute_under(site, leases[periods.STEP])
    names_sync.take_messages(site, leases[names.LEASE], names_sync.Synced())
    was_killed = one.began_at is not None and one.ended_at is None
    if one.began_at is not None and was_killed:
        began_at, versions = one.began_at, one.versions or {}
    else:
        began_at, versions = times.now(), {name: lake.version(name) for name in TABLES}
        recorded.change(site, one, began_at=began_at, ended_at=None, versions=versions)
    with leases["catalog"].begin() as connection:
        changes = renamed(connection, person)
        warehouse_rows.add_renamed(connection, changes)
        _mark_since(connection, began_at, changes, f"erasure {one.erasure_id} was killed")
    rows = LakeRows(site, person, changes, one.erasure_id, leases)
    rows.replace(progress)
    with leases["catalog"].begin() as connection:
        leases[following.FOLLOWER].check(connection)
        leases[periods.STEP].check(connection)
        leases[alarms.LEASE].check(connection)  # whoever defines alarms does not take it, and waits for its row
        changed, hours = warehouse_rows.replace(connection, person, changes)
        mark_dirty(connection, hours, f"erasure {one.erasure_id} has joined series")
        history.record_position(connection, FOLLOWER, history.position(lake, TABLE, lake.version(TABLE)))
        at = history.position(lake, following.TABLE, lake.version(following.TABLE))
        history.record_position(connection, following.FOLLOWER, at)
        if not was_killed:  # otherwise periods may have been computed of what was half replaced
            periods.record_positions(site, connection)
        _add_rows(connection, one, changed)
    in_files = files.replace(site, person, dry_run=False)
    in_lake, removed = committed(site, one.erasure_id, versions)
    with site.warehouse.begin() as connection:
        _add_rows(connection, one, in_lake + in_files.counts)
        now_at = json.dumps({name: lake.version(name) for name in TABLES})
        connection.execute(erasures.update().where(erasures.c.erasure_id == one.erasure_id).values(versions=now_at))
    deleted = remains.delete_files(site, moment, removed)
    remains.shorten_logs(site, leases)
    for table in computed.TABLES:
        with leases["rollups"].begin() as connection:
            computed.record(site, connection, table)
    site.warehouse.forget_deleted()
    recorded.change(site, one, ended_at=times.now(), versions=None)
    return Found(one, changed + in_lake + in_files.counts, in_files.left, rows.described, deleted)


@retried
def _refuse(site: Site, person: Person) -> None:
    """Refuse texts that figures are told by: words of a project, flavor, zone, meter, unit, source or type of message
    or resource, or all by which two series or resources differ.

    Raises:
        UsageError: one of the texts is such a word.
    """
    kept: list[tuple[str, str]] = []
    with site.warehouse.read() as connection:
        for what in ("meter", "unit", "type", "source", "project_id"):
            found = connection.execute(select(series.c[what]).distinct()).scalars()
            kept += [(what.removesuffix("_id"), text) for text in found if text]
    for name in ("notifications", "events"):
        for path in site.lake.actions(name)["path"].to_pylist():
            for rows in site.lake.pieces_of(name, path, _TYPES_AT_ONCE, ["event_type"]):
                kept += [("type of message", text) for text in rows["event_type"].unique().to_pylist() if text]
    with site.warehouse.read() as connection:
        for what in ("resource_type", "project_id", "flavor", "zone"):
            found = connection.execute(select(resource_periods.c[what]).distinct()).scalars()
            kept += [(what.removesuffix("_id").replace("_", " "), text) for text in found if text]
    for what, text in dict.fromkeys(kept):
        if person.is_in(text):
            raise UsageError(
                f"a text that is to be erased is a word of the {what} '{text}', which figures are told by",
                hint="Give a longer text",
            )
    with site.warehouse.read() as connection:
        renamed(connection, person)
        refuse_joined(connection, person)


def _published(site: Site) -> datetime:
    """Write the lake's list of all erased users; return when, by the clock of the lake's store."""
    if site.lake.object_store is not None:
        time.sleep(1.1)  # it tells the time in seconds, and what was written before has to be older
    uri = lake_erasures.publish(site.lake, [each.user for each in recorded.recorded(site)])
    name = uri.rpartition("/")[2]
    return next(written for each, written in site.lake.listed("erasures") if each.rpartition("/")[2] == name)


@contextmanager
def _held(site: Site) -> Iterator[dict[str, Lease]]:
    """Hold the leases of all steps that write."""
    with ExitStack() as stack:
        yield {name: stack.enter_context(site.warehouse.lease(name, wait_seconds=WAIT_SECONDS)) for name in LEASES}


def _mark_since(connection: Connection, began_at: datetime, changes: Renamed, why: str) -> None:
    """Make the hours dirty that may have points of the user, and were rolled up since a run that was killed."""
    if not changes.series:
        return
    first = min(row["first_point_at"] for row in changes.series.values())
    last = max(row["last_point_at"] for row in changes.series.values())
    hour = dirty_hours.c.hour
    within = hour >= times.hour_of(first), hour <= last, dirty_hours.c.rolled_at >= began_at
    mark_dirty(connection, list(connection.execute(select(hour).where(*within)).scalars()), why)


def _add_rows(connection: Connection, one: Erasure, rows: Mapping[str, int]) -> None:
    """Add to the counts of the record."""
    this = erasures.c.erasure_id == one.erasure_id
    known = Counter(json.loads(connection.execute(select(erasures.c.rows).where(this)).scalar_one()))
    known.update(rows)
    connection.execute(erasures.update().where(this).values(rows=json.dumps(dict(sorted(known.items())))))
