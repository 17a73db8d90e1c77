"""What projects, users and flavors are called, and were called at a time.

Three witnesses say so: the file `names.csv`, Keystone, and messages. The table `resource_names` has what each of them
has said, from when until when it was last seen. The view `name_history` joins them: at any time the file rules, then
Keystone, then messages. So a project that is renamed keeps its old name in old bills. The first name that is known of
an id also stands for the time before, because a name of later is better than none.
"""

import logging
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from sqlalchemy import Connection, and_, delete, func, insert, or_, select

from meterhouse import times
from meterhouse.errors import AlreadyRunning, DefinitionError, UnknownName
from meterhouse.site import Site
from meterhouse.stores.bulk import bulk_insert
from meterhouse.stores.lake_erasures import NOBODY, erased_users
from meterhouse.stores.warehouse_tables import name_history, resource_names
from meterhouse.usage import names_file

if TYPE_CHECKING:
    import pyarrow as pa

    from meterhouse.personal_data import ErasedUsers
    from meterhouse.stores.leases import Lease
    from meterhouse.usage.names_file import NamesFile

FILE, KEYSTONE, EVENT = "file", "keystone", "event"
"""The witnesses, the most trusted first."""

KINDS: Final = names_file.KINDS

LEASE: Final = "names"
"""The lease of whoever writes names."""

AT_ONCE: Final = 400
"""How many ids a statement has as parameters."""

MANY: Final = 5_000
"""For more ids than this, all names of the witness are read."""

_COLUMNS: Final = ("kind", "id", "valid_from", "witness", "name", "domain_name", "seen_until")

log = logging.getLogger(__name__)


class Seen(NamedTuple):
    """A witness has seen a name from one time until another; in between, it may have seen others."""

    name: str
    domain_name: str | None
    first_at: datetime
    last_at: datetime


# -- reading --------------------------------------------------------------------------------------------------


def names_at(site: Site, kind: str, moment: datetime) -> dict[str, str]:
    """The name of each id of a kind at a time; ids of which no name is known are missing.

    What has changed in `names.csv` is taken up first.

    Args:
        site: the site.
        kind: one of KINDS.
        moment: the time, aware.
    """
    return {row["id"]: row["name"] for row in listed(site, kind, moment)}


def listed(site: Site, kind: str | None = None, moment: datetime | None = None) -> list[dict[str, Any]]:
    """The names at a time, by kind and id: `kind`, `id`, `name`, `domain_name`, `witness`, `valid_from`, `valid_to`.

    Args:
        site: the site.
        kind: one of KINDS; default all.
        moment: the time, aware; default now.
    """
    take_file_if_free(site)
    moment = moment or times.now()
    shown = select(name_history).where(
        name_history.c.valid_from <= moment, or_(name_history.c.valid_to.is_(None), name_history.c.valid_to > moment)
    )
    if kind is not None:
        shown = shown.where(name_history.c.kind == kind)
    with site.warehouse.read() as connection:
        found = connection.execute(shown.order_by(name_history.c.kind, name_history.c.id)).all()
    return [dict(row._mapping) for row in found]


def history_of(site: Site, text: str) -> list[dict[str, Any]]:
    """The names that an id had by time, or those of all ids that have had this name; as rows of `name_history`.

    Raises:
        UnknownName: no id and no name is this text.
    """
    take_file_if_free(site)
    with site.warehouse.read() as connection:
        named = select(name_history.c.kind, name_history.c.id).where(
            or_(name_history.c.id == text, name_history.c.name == text)
        )
        keys = sorted({(row.kind, row.id) for row in connection.execute(named)})
        found: list[dict[str, Any]] = []
        for kind, number in keys:
            rows = select(name_history).where(name_history.c.kind == kind, name_history.c.id == number)
            found += [dict(row._mapping) for row in connection.execute(rows.order_by(name_history.c.valid_from))]
        if not found:
            known = connection.execute(select(name_history.c.name).distinct().limit(10_000)).scalars().all()
            raise UnknownName("name or id", text, known)
    return found


def counts(site: Site) -> list[tuple[str, str, int]]:
    """How many ids each witness has named: kind, witness, number."""
    columns = (resource_names.c.kind, resource_names.c.witness)
    query = select(*columns, func.count(resource_names.c.id.distinct())).group_by(*columns).order_by(*columns)
    with site.warehouse.read() as connection:
        return [(kind, witness, count) for kind, witness, count in connection.execute(query)]


# -- the file -------------------------------------------------------------------------------------------------


def take_file_if_free(site: Site) -> None:
    """Take up what has changed in `names.csv`, unless another process is writing names, or the file cannot be read."""
    try:
        given = names_file.load(site.settings.config_dir)
        if _differs(site, given):
            with site.warehouse.lease(LEASE, wait_seconds=5.0) as lease:
                take_file(site, lease, given)
    except AlreadyRunning:
        log.warning("another process is writing names: a change of %s is not taken up yet", names_file.FILE)
    except DefinitionError as error:
        log.warning("%s; its names of before are used", error)


def take_file(site: Site, lease: "Lease", given: "NamesFile") -> int:
    """Replace the names of the file by those that it has now; return how many they are."""
    rows = _file_rows(site, given)
    with lease.begin() as connection:
        connection.execute(delete(resource_names).where(resource_names.c.witness == FILE))
        if rows:
            connection.execute(insert(resource_names), rows)
    return len(rows)


def _differs(site: Site, given: "NamesFile") -> bool:
    columns = [resource_names.c[name] for name in ("kind", "id", "valid_from", "name", "domain_name")]
    with site.warehouse.read() as connection:
        there = {tuple(row) for row in connection.execute(select(*columns).where(resource_names.c.witness == FILE))}
    if not there and not given.names:
        return False
    wanted = {tuple(row[column.name] for column in columns) for row in _file_rows(site, given)}
    return there != wanted


def _file_rows(site: Site, given: "NamesFile") -> list[dict[str, Any]]:
    erased = erased_of(site)
    return [
        {**vars(one), "witness": FILE, "seen_until": one.valid_from}
        for one in given.names
        if one.kind != "user" or erased.pseudonym(one.id) is None
    ]


def erased_of(site: Site) -> "ErasedUsers":
    """The users that were erased: none of their names is stored."""
    return erased_users(site.lake) or NOBODY


# -- writing --------------------------------------------------------------------------------------------------


def merge(connection: Connection, witness: str, seen: Mapping[tuple[str, str], Sequence[Seen]]) -> int:
    """Add what a witness has seen, in whatever order it came; the same again changes nothing.

    Args:
        connection: a writing transaction.
        witness: KEYSTONE or EVENT.
        seen: by kind and id.

    Returns:
        How many names began, ended or were new.
    """
    known = _known(connection, witness, seen)
    changed, gone, runs_of = 0, list[tuple[str, str]](), dict[tuple[str, str], list[Seen]]()
    for key, fresh in seen.items():
        before = known.get(key, [])
        after = runs([*before, *fresh])
        if after == before:
            continue
        changed += [(run.name, run.first_at) for run in after] != [(run.name, run.first_at) for run in before]
        gone += [key] if before else []
        runs_of[key] = after
    for keys in _some(gone):
        connection.execute(delete(resource_names).where(resource_names.c.witness == witness, _is_one_of(keys)))
    bulk_insert(connection, resource_names.name, _as_rows(witness, runs_of))
    return changed


def runs(seen: Iterable[Seen]) -> list[Seen]:
    """The names by time, each from when it was first seen until it was last seen before the next.

    A name counts at its first and its last time alone: what was seen in between lies in between.
    """
    marks = {(moment, each.name, each.domain_name) for each in seen for moment in (each.first_at, each.last_at)}
    found: list[Seen] = []
    by_time = sorted(marks, key=lambda mark: (mark[0], mark[1], mark[2] or ""))
    for name, group in groupby(by_time, key=lambda mark: mark[1]):
        times_of = list(group)
        domain = next((each for _, _, each in reversed(times_of) if each), None)
        run = Seen(name, domain, times_of[0][0], times_of[-1][0])
        if found and found[-1].first_at == run.first_at:  # two names at once: the later in the alphabet
            found.pop()
        if found and found[-1].name == name:
            run = Seen(name, domain or found[-1].domain_name, found.pop().first_at, run.last_at)
        found.append(run)
    return found


def _known(
    connection: Connection, witness: str, keys: Collection[tuple[str, str]]
) -> dict[tuple[str, str], list[Seen]]:
    columns = [resource_names.c[name] for name in _COLUMNS if name != "witness"]
    query = select(*columns).where(resource_names.c.witness == witness).order_by(resource_names.c.valid_from)
    found: dict[tuple[str, str], list[Seen]] = {}
    for some in _some(keys) if len(keys) < MANY else [None]:
        for row in connection.execute(query if some is None else query.where(_is_one_of(some))):
            one = Seen(row.name, row.domain_name, row.valid_from, row.seen_until)
            found.setdefault((row.kind, row.id), []).append(one)
    return found


def _is_one_of(keys: Sequence[tuple[str, str]]) -> Any:
    kinds = sorted({kind for kind, _ in keys})
    return or_(
        *(
            and_(resource_names.c.kind == kind, resource_names.c.id.in_([number for of, number in keys if of == kind]))
            for kind in kinds
        )
    )


def _as_rows(witness: str, runs_of: Mapping[tuple[str, str], Sequence[Seen]]) -> "pa.Table":
    import pyarrow as pa

    flat = [(*key, run.first_at, witness, *run[:2], run.last_at) for key, found in runs_of.items() for run in found]
    time = pa.timestamp("us", tz="UTC")
    schema = pa.schema([(name, time if name in ("valid_from", "seen_until") else pa.string()) for name in _COLUMNS])
    return pa.table([list(column) for column in zip(*flat, strict=True)], schema) if flat else schema.empty_table()


def _some(keys: Iterable[tuple[str, str]]) -> Iterator[list[tuple[str, str]]]:
    listed_keys = sorted(keys)
    for start in range(0, len(listed_keys), AT_ONCE):
        yield listed_keys[start : start + AT_ONCE]
