"""The step `periods`: what existed when, from the evidence of notifications and the roll-ups of polled samples.

A month is computed as a whole, from what was known at its start and what was said in it; so a month takes the same time
on an old site. New evidence and recomputed roll-ups say which months to compute again. Only rows that differ are
written, in one transaction that records how far this has followed the lake: a second run changes nothing, and a killed
one is repeated.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from functools import lru_cache
from itertools import pairwise
from typing import Any, Final

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import Connection, text

from meterhouse import history, times
from meterhouse.definitions.resources import ATTRIBUTES, SIZES, Resources
from meterhouse.definitions.resources import load as load_resources
from meterhouse.definitions.units import Units
from meterhouse.definitions.units import load as load_units
from meterhouse.errors import Replaced
from meterhouse.garbage import gc_disabled
from meterhouse.progress import Progress, no_progress
from meterhouse.site import Site
from meterhouse.stores.bulk import bulk_insert
from meterhouse.stores.duck import arrow
from meterhouse.stores.lake import SEAL, Lake
from meterhouse.stores.lake_files import DataFile
from meterhouse.stores.lake_tables import EVIDENCE, TIME
from meterhouse.stores.leases import Lease
from meterhouse.stores.warehouse_tables import resource_periods
from meterhouse.usage import event_days, evidence, made_by, polled, runs
from meterhouse.usage.timelines import (
    RANKS,
    Fact,
    Heard,
    Life,
    Period,
    Runs,
    Seen,
    confirm,
    confirmed_by,
    fold,
    last_period,
)
from meterhouse.verification import VERIFY

STEP: Final = "periods"
TABLE: Final = "resource_periods"

OF_EVIDENCE, OF_ROLLUPS = f"{TABLE} of evidence", f"{TABLE} of rollups"
"""The names by which the warehouse records how far this step has followed the two tables."""

READER: Final = "the periods of resources"

KEPT: Final = timedelta(days=62)
"""A resource that an event ended longer ago, by the start of a month, is not taken into that month."""

SILENT: Final = timedelta(days=400)
"""One that silence ended longer ago is not either. Until then, who sees it again finds that it went on."""

FILES: Final = 8
"""A month of evidence with more files than this is rewritten as one."""

KEYS: Final = ("resource_type", "resource_id", "started_at")
"""The columns that tell a period."""

Key = tuple[str, str]


@dataclass
class Computed:
    """What a run did."""

    notifications: int = 0
    evidence: int = 0
    unreadable: int = 0
    months: int = 0
    resources: int = 0
    periods: int = 0
    changed: int = 0
    seconds: float = 0.0
    days: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)


def compute(
    site: Site,
    *,
    months: Sequence[date] = (),
    wait_seconds: float = 0.0,
    progress: Progress = no_progress,
) -> Computed:
    """Read the evidence of what was landed, and compute the periods of the months that it is about.

    Args:
        site: the site.
        months: first days of months that are computed whether anything came or not.
        wait_seconds: how long to wait for another process that is running this step.
        progress: gets the months that are done and how many there are.

    Raises:
        AlreadyRunning: another process is still running this step after `wait_seconds`.
        DefinitionError: resources.yaml or units.yaml cannot be read; nothing was done.
        WentBack: a table of the lake is older than what was read of it, or another one; nothing was done.
    """
    with site.warehouse.lease(STEP, wait_seconds=wait_seconds) as lease:
        return compute_under(site, lease, months, progress)


def compute_under(site: Site, lease: Lease, months: Sequence[date] = (), progress: Progress = no_progress) -> Computed:
    """See `compute`; `lease` is that of the step."""
    started, clock = times.now(), time.monotonic()
    resources, units = load_resources(site.settings.config_dir), load_units(site.settings.config_dir)
    done = Computed(faults=[str(fault) for fault in (*resources.faults, *units.faults)])
    site.lake.fence(lease, evidence.TABLE, "resource_states")
    read = evidence.follow(site, lease, resources, units)
    done.notifications, done.evidence, done.unreadable = read.notifications, read.rows, read.errors
    pa.default_memory_pool().release_unused()  # some 300 MB, if much was read
    run = _Run(site, lease, resources, units, done, progress)
    with gc_disabled():
        run.compute(set(months))
    done.seconds = time.monotonic() - clock
    if done.evidence or done.changed:
        site.warehouse.record_run(STEP, started, vars(done))
    return done


def record_positions(site: Site, connection: Connection) -> None:
    """Record that the periods are those of the lake as it is now, in the transaction that makes them so."""
    for follower, table in ((OF_EVIDENCE, evidence.TABLE), (OF_ROLLUPS, "rollups")):
        position = history.position(site.lake, table, site.lake.version(table))
        history.record_position(connection, follower, position)


def _next(month: date) -> date:
    return (month.replace(day=28) + timedelta(days=4)).replace(day=1)


def _start(month: date) -> datetime:
    return times.day_start(month)


@dataclass
class _Run:
    site: Site
    lease: Lease
    resources: Resources
    units: Units
    done: Computed
    progress: Progress

    def compute(self, wanted: set[date]) -> None:
        lake = self.site.lake
        at_evidence = history.check(self.site, OF_EVIDENCE, evidence.TABLE, READER)
        at_rollups = history.check(self.site, OF_ROLLUPS, "rollups", READER)
        now_evidence, now_rollups = lake.version(evidence.TABLE), lake.version("rollups")
        touched = wanted | self._of_evidence(at_evidence.version, now_evidence)
        with_polls = polled.has_polls(self.site, self.resources)
        if with_polls:
            touched |= self._of_rollups(at_rollups.version, now_rollups)
        reached = {
            OF_EVIDENCE: history.position(lake, evidence.TABLE, now_evidence),
            OF_ROLLUPS: history.position(lake, "rollups", now_rollups),
        }
        if not touched:
            if (at_evidence.version, at_rollups.version) != (now_evidence, now_rollups):
                with self.lease.begin() as connection:
                    for name, position in reached.items():
                        history.record_position(connection, name, position)
            return
        days = event_days.between(lake, (at_evidence.version, now_evidence), (at_rollups.version, now_rollups))
        self.done.days = sorted(map(str, days))
        months = self._months(min(touched), with_polls)
        lives = self._lives(months[0])
        heads = {key: life.start.at for key, life in lives.items() if life.start is not None}
        rows: dict[Key, list[Period]] = {}
        present = times.now()
        for number, month in enumerate(months):
            self.progress(number, len(months))
            self._fold(month, lives, rows, with_polls)
            following = months[number + 1] if number + 1 < len(months) else _next(month)
            if present >= _start(following):
                self._forget(lives, following, rows)
                self._keep(following, lives)
        self.progress(len(months), len(months))
        self.done.months = len(months)
        table = self._digested(self._rows(rows, lives))
        self.done.resources, self.done.periods = len(lives), table.num_rows
        rows.clear()
        lives.clear()
        with self.lease.begin() as connection:
            self.done.changed = _replace(connection, table, _start(months[0]), heads)
            made_by.note(connection, made_by.meaning_of(self.resources, self.units, self.site.settings), months)
            for name, position in reached.items():
                history.record_position(connection, name, position)

    # -- which months ---------------------------------------------------------------------------------------------

    def _of_evidence(self, after: int, until: int) -> set[date]:
        """The months of event time of the evidence that came after a version."""
        if until <= after:
            return set()
        try:
            found = set()
            for commit in self.site.lake.commits(evidence.TABLE, after, until):
                if commit.changes_data:
                    found |= {date.fromisoformat(add["partitionValues"]["event_day"]) for add in commit.added}
            return found
        except Replaced:
            actions = self.site.lake.actions(evidence.TABLE)
            return set(actions["partition.event_day"].to_pylist())

    def _of_rollups(self, after: int, until: int) -> set[date]:
        """The months whose roll-ups were recomputed after a version."""
        if until <= after:
            return set()
        try:
            found = set()
            for commit in self.site.lake.commits("rollups", after, until):
                found |= {hour.date().replace(day=1) for hour in commit.hours or ()}
            return found
        except Replaced:
            days = self.site.lake.actions("rollups")["partition.event_day"].to_pylist()
            return {day.replace(day=1) for day in days}

    def _months(self, first: date, with_polls: bool) -> list[date]:
        """The months that have evidence or roll-ups, in order, from the newest one up to `first` whose start is known.

        What was known at the start of a month is kept once the month before is over, so it may lack here.
        """
        known = set(self.site.lake.actions(evidence.TABLE)["partition.event_day"].to_pylist())
        if with_polls:
            days = pc.unique(self.site.lake.actions("rollups")["partition.event_day"]).to_pylist()
            known |= {day.replace(day=1) for day in days}
        starts = [month for month in self._kept() if month <= first]
        since = max(starts, default=min(known | {first}))
        return sorted({month for month in known if month >= since} | {first})

    # -- what was known -------------------------------------------------------------------------------------------

    def _kept(self) -> set[date]:
        """The months at whose start it is known what there was."""
        return set(self.site.lake.actions("resource_states")["partition.event_day"].to_pylist())

    def _lives(self, month: date) -> dict[Key, Life]:
        """What was known of resources at the start of a month: by the newest one up to it that was kept."""
        before = [day for day in self._kept() if day <= month]
        if not before:
            return {}
        decode = msgspec.json.Decoder(Life).decode
        lives: dict[Key, Life] = {}
        kept = self.site.lake.matching("resource_states", partitions={"event_day": [max(before)]})
        for path in kept["path"].to_pylist():
            found = self.site.lake.read_file("resource_states", path, ["resource_type", "resource_id", "state"])
            kinds, ids, states = (found[name].to_pylist() for name in found.column_names)
            lives.update(zip(zip(kinds, ids, strict=True), map(decode, states), strict=True))
        self._forget(lives, month, {})
        return lives

    def _forget(self, lives: dict[Key, Life], month: date, rows: dict[Key, list[Period]]) -> None:
        """Leave out what ended long before a month, by an event or by silence, and the types that are not defined.

        `rows` gets the periods of those that silence ended.
        """
        self._heard_of.clear()
        oldest, silent = (times.micros(_start(month) - each) for each in (KEPT, SILENT))
        known = {kind.type: kind for kind in self.resources.types}
        gone = [key for key, life in lives.items() if key[0] not in known or life.last < oldest]
        for key in gone:
            life = lives[key]
            if key[0] in known and (life.start is not None or life.going is not None):
                if life.last >= silent:
                    continue
                closed: list[Period] = []
                last = last_period(life, known[key[0]], self._heard(key[0], lives), closed)
                if last is not None and last.end is None:
                    continue
                rows.setdefault(key, []).extend([*closed, *([last] if last else [])])
                self._silenced.add(key)
            del lives[key]

    def _keep(self, month: date, lives: dict[Key, Life]) -> None:
        """Keep what is known at the start of a month, in place of what was."""
        encode = msgspec.json.Encoder().encode
        keys = sorted(lives)
        rows = pa.table(
            {
                "event_day": pa.repeat(pa.scalar(month), len(keys)),
                "resource_type": pa.array([key[0] for key in keys], pa.string()),
                "resource_id": pa.array([key[1] for key in keys], pa.string()),
                "state": pa.array([encode(lives[key]).decode() for key in keys], pa.string()),
            }
        )
        lake = self.site.lake
        after = lake.swaps("resource_states")
        old = lake.matching("resource_states", partitions={"event_day": [month]})
        files = lake.write_files("resource_states", rows) if len(keys) else []
        if files or old.num_rows:
            lake.swap("resource_states", old, files, {SEAL: "states"}, same_rows=False, after=after, lease=self.lease)

    # -- a month --------------------------------------------------------------------------------------------------

    def _fold(self, month: date, lives: dict[Key, Life], rows: dict[Key, list[Period]], with_polls: bool) -> None:
        kinds = {kind.type: kind for kind in self.resources.types}

        def take(key: Key, facts: list[Fact]) -> None:
            life = lives.get(key)
            if life is None:
                life = lives[key] = Life()
            if len(facts) == 1 and confirm(life, facts[0], kinds[key[0]]):
                return
            closed = rows.get(key, [])
            fold(life, facts, kinds[key[0]], closed)
            if closed:
                rows[key] = closed
            if life.start is None and life.over is None and life.going is None and not closed:
                del lives[key]  # what failed to begin

        rewrite = _Rewrite(self.site.lake, month)
        if not with_polls:
            for part in self._evidence(month):
                rewrite.add(part)
                for key, facts in self._facts(part):
                    take(key, facts)
        else:
            parts = list(self._evidence(month))
            samples = polled.facts(self.site, _start(month), _start(_next(month)), self.resources, self.units, parts)
            while parts:
                part = parts.pop(0)
                rewrite.add(part)
                for key, facts in self._facts(part):
                    polls = samples.pop(key, None)
                    take(key, sorted([*facts, *polls], key=_order) if polls else facts)
            for key, facts in samples.items():
                take(key, facts)
        rewrite.finish(self.lease)

    def _evidence(self, month: date) -> Iterator[pa.Table]:
        """The evidence of a month in order, divided by resource; columns of EVIDENCE."""
        lake = self.site.lake
        found = lake.matching(evidence.TABLE, partitions={"event_day": [month]})
        rows = sum(found["num_records"].to_pylist()) if found.num_rows else 0
        files = [f"{lake.uri(evidence.TABLE)}/{path}" for path in found["path"].to_pylist()]
        return runs.in_order(self.site, files, rows)

    def _facts(self, part: pa.Table) -> Iterator[tuple[Key, list[Fact]]]:
        """A part of the evidence of a month as facts, those of a resource in the order of time."""
        known = {kind.type for kind in self.resources.types}
        moments = (
            part[name].cast(TIME).cast(pa.int64()).to_pylist()
            for name in ("said_at", "from_at", "to_at", "began_at", "created_at", "ended_at")
        )
        said, since, until, began, created, ended = moments
        kinds, ids, effects, reports, messages, last, types, sources = (
            part[name].to_pylist()
            for name in (
                *("resource_type", "resource_id", "effect", "reports", "message_id", "last_message_id"),
                *("event_type", "source"),
            )
        )
        values = zip(*(part[name].to_pylist() for name in (*ATTRIBUTES, *SIZES, "measures")), strict=True)
        reporters = map(reporter_of, part["reporter"].to_pylist())
        facts = list(
            map(
                Fact,
                *(said, effects, since, until, reports, began, created, ended, values, messages, last, types),
                *(reporters, sources),
            )
        )
        same = pc.and_(
            *(pc.equal(column.slice(1), column.slice(0, len(column) - 1)) for column in _keys(part))
        ).to_numpy(zero_copy_only=False)
        starts = [0, *(np.flatnonzero(~same) + 1).tolist(), part.num_rows]
        for at, after in pairwise(starts):
            if kinds[at] in known and sources[at] != VERIFY:
                of_resource = facts[at:after]
                if after - at > 1:
                    of_resource.sort(key=_order)
                yield (kinds[at], ids[at]), of_resource

    # -- the end of what is known ---------------------------------------------------------------------------------

    _heard_of: dict[str, Heard] = field(default_factory=dict)
    _silenced: set[Key] = field(default_factory=set)
    """What silence ended and was forgotten in this run. Who sees one of these again may claim that it went on."""

    def _heard(self, type_: str, lives: Mapping[Key, Life]) -> Heard:
        """When the reporters of a type of resource were last heard."""
        if not self._heard_of:
            audits: dict[str, dict[str, list[Seen]]] = {}
            polls: dict[str, dict[str, list[Seen]]] = {}
            steps: dict[str, dict[str, int]] = {}
            for (kind, _), life in lives.items():
                if (audited := life.audits) is not None and audited.reports > 1:
                    audits.setdefault(kind, {}).setdefault(audited.reporter, []).append(audited)
                if (seen := life.polls) is not None:
                    polls.setdefault(kind, {}).setdefault(seen.host, []).append(seen)
                    of_kind = steps.setdefault(kind, {})
                    if seen.reports > 2 and seen.step > of_kind.get(seen.host, 0):
                        of_kind[seen.host] = seen.step
            for kind in {*audits, *polls}:
                self._heard_of[kind] = Heard(
                    {name: Runs(_runs(some), _returned(some)) for name, some in audits.get(kind, {}).items()},
                    {name: Runs(_runs(some)) for name, some in polls.get(kind, {}).items()},
                    steps.get(kind, {}),
                )
        return self._heard_of.get(type_) or Heard({}, {}, {})

    def _digested(self, table: pa.Table) -> pa.Table:
        """Rows with a hash of each, but for what only confirms it: by it, the warehouse finds the rows that differ."""
        hashed = ", ".join(name for name in table.column_names if not name.startswith("confirmed_"))
        with self.site.lake.connect() as duck:
            duck.register("computed", table)
            found = arrow(duck, f"SELECT (hash({hashed}) >> 1)::BIGINT AS digest FROM computed")
        return table.append_column("digest", found["digest"])

    def _rows(self, rows: dict[Key, list[Period]], lives: dict[Key, Life]) -> pa.Table:
        self._heard_of.clear()
        kinds = {kind.type: kind for kind in self.resources.types}
        found: list[tuple[Key, Period]] = [(key, period) for key, periods in rows.items() for period in periods]
        for key, life in lives.items():
            if life.start is None and life.going is None:
                continue
            closed: list[Period] = []
            last = last_period(life, kinds[key[0]], self._heard(key[0], lives), closed)
            found += [(key, period) for period in closed]
            if last is not None:
                found.append((key, last))
        of_key: dict[Key, dict[int, Period]] = {key: {} for key in self._silenced}
        for key, period in found:
            if key in of_key:
                of_key[key] = {at: each for at, each in of_key[key].items() if not _overlap(each, period)}
                of_key[key][period.start.at] = period
        left = [(key, each) for key, each in found if key not in of_key]
        left += [(key, each) for key, periods in of_key.items() for each in periods.values()]
        return _table([*{(key, period.start.at): (key, period) for key, period in left}.values()])


class _Rewrite:
    """A month's evidence, written as few files, if it has many, or rows that can be one.

    Args:
        lake: the lake.
        month: its first day.
    """

    def __init__(self, lake: Lake, month: date) -> None:
        self._lake = lake
        self._found = lake.matching(evidence.TABLE, partitions={"event_day": [month]})
        self._after = lake.swaps(evidence.TABLE)
        self._rows = sum(self._found["num_records"].to_pylist()) if self._found.num_rows else 0
        self._parts, self._files, self._count = list[pa.Table](), list[DataFile](), 0

    def add(self, part: pa.Table) -> None:
        """Take in the rows of a part of the month, as they should be."""
        self._count += part.num_rows
        if self._found.num_rows > FILES:
            self._write(part)
        else:
            self._parts.append(part)

    def finish(self, lease: Lease) -> None:
        """Put the new files in the place of the old ones, if that makes a difference."""
        if self._found.num_rows <= FILES and self._rows - self._count <= max(1000, self._count // 2):
            return
        for part in self._parts:
            self._write(part)
        self._lake.swap(
            evidence.TABLE, self._found, self._files, {SEAL: "evidence"}, same_rows=True, after=self._after, lease=lease
        )

    def _write(self, part: pa.Table) -> None:
        self._files += self._lake.write_files(evidence.TABLE, part.select(EVIDENCE.names).cast(EVIDENCE))


def _runs(some: Sequence[Seen]) -> list[tuple[int, int]]:
    """When the reporter of these reported each without a pause."""
    return [(seen.since, seen.at) for seen in some]


def _returned(some: Sequence[Seen]) -> list[tuple[int, int]]:
    """The same of those that it had audited before its last pause: there are more audits of them than since then."""
    return _runs([seen for seen in some if seen.reports * seen.step > seen.at - seen.since + seen.step])


def _overlap(one: Period, other: Period) -> bool:
    """Whether two periods have a moment in common."""
    return (one.end is None or one.end.at > other.start.at) and (other.end is None or other.end.at > one.start.at)


@lru_cache(maxsize=65536)
def reporter_of(publisher: str | None) -> str:
    """Who sent a notification: the host of `compute.host` and `nova-compute:host`."""
    if not publisher:
        return ""
    for mark in (":", "."):
        _, found, host = publisher.partition(mark)
        if found:
            return host
    return publisher


def _keys(part: pa.Table) -> tuple[pa.Array, pa.Array]:
    """The columns that tell a resource."""
    return part["resource_type"].combine_chunks(), part["resource_id"].combine_chunks()


def _order(fact: Fact) -> tuple[int, int, str]:
    return fact.at, RANKS[fact.effect], fact.evidence or ""


def _table(found: Sequence[tuple[Key, Period]]) -> pa.Table:
    """Periods as rows of `resource_periods`."""

    def times_of(values: list[int | None]) -> pa.Array:
        return pa.array(values, pa.int64()).cast(TIME)

    def texts(values: list[str | None]) -> pa.Array:
        return pa.array(values, pa.string())

    periods = [period for _, period in found]
    ends = [period.end for period in periods]
    columns: dict[str, Any] = {
        "resource_type": texts([key[0] for key, _ in found]),
        "resource_id": texts([key[1] for key, _ in found]),
        "started_at": times_of([period.start.at for period in periods]),
        "ended_at": times_of([end.at if end else None for end in ends]),
        "source": texts([period.source for period in periods]),
    }
    for place, name in enumerate(ATTRIBUTES):
        columns[name] = texts([period.values[place] or None for period in periods])
    for place, name in enumerate(SIZES, len(ATTRIBUTES)):
        columns[name] = pa.array([period.values[place] for period in periods], pa.float64())
    columns["measures"] = texts([period.values[13] for period in periods])
    for side, boundaries in (("start", [period.start for period in periods]), ("end", ends)):
        columns[f"{side}_witness"] = texts([each.witness if each else None for each in boundaries])
        columns[f"{side}_evidence"] = texts([each.evidence if each else None for each in boundaries])
        columns[f"{side}_reason"] = texts([each.reason if each else None for each in boundaries])
        columns[f"{side}_earliest"] = times_of([each.earliest if each else None for each in boundaries])
        columns[f"{side}_latest"] = times_of([each.latest if each else None for each in boundaries])
    columns["confirmed_until"] = times_of([period.confirmed for period in periods])
    columns["confirmed_by"] = texts([confirmed_by(period.kinds) for period in periods])
    columns["unconfirmed"] = pa.array([period.unconfirmed for period in periods], pa.bool_())
    return pa.table(columns)


def _replace(connection: Connection, table: pa.Table, start: datetime, heads: Mapping[Key, int]) -> int:
    """Put rows in place of those of resources from a moment on: what was open then, ended later, or starts later."""
    columns = [column.name for column in resource_periods.columns]
    stage, fresh, kept, gone = (f"stage_resource_{name}" for name in ("periods", "fresh", "heads", "gone"))
    for name in (stage, fresh, kept, gone):
        connection.execute(text(f"DROP TABLE IF EXISTS {name}"))
    narrow = [*KEYS, "ended_at", "confirmed_until", "confirmed_by", "digest"]
    connection.execute(
        text(f"CREATE TEMP TABLE {stage} AS SELECT {', '.join(narrow)}, digest AS number FROM {TABLE} WHERE 1 = 0")
    )
    numbered = table.select(narrow).append_column("number", pa.array(np.arange(table.num_rows)))
    bulk_insert(connection, stage, numbered)
    connection.execute(text(f"CREATE INDEX {stage}_digest ON {stage} (digest)"))
    for name in (kept, gone):
        connection.execute(text(f"CREATE TEMP TABLE {name} AS SELECT {', '.join(KEYS)} FROM {TABLE} WHERE 1 = 0"))
    bulk_insert(connection, kept, _moved(table, heads))
    same = "s.resource_type = p.resource_type AND s.resource_id = p.resource_id AND s.started_at = p.started_at"
    other = "s.resource_type = p.resource_type AND s.resource_id = p.resource_id"
    differs = f"NOT EXISTS (SELECT 1 FROM {stage} AS s WHERE {same} AND s.digest = p.digest)"
    chosen = ", ".join(f"p.{name}" for name in KEYS)
    bound = resource_periods.c.started_at.type.bind_processor(connection.dialect)
    # Most rows are as they were. They overlap no other, because those of a resource never do.
    connection.execute(
        text(
            f"CREATE TEMP TABLE {fresh} AS SELECT * FROM {stage} AS s"
            f" WHERE NOT EXISTS (SELECT 1 FROM {TABLE} AS p WHERE {same} AND s.digest = p.digest)"
        )
    )
    # What was open, or ended since; what was open at the moment, and silence ended before; and what overlaps new rows.
    connection.execute(
        text(
            f"INSERT INTO {gone} SELECT {chosen} FROM {TABLE} AS p"
            f" WHERE (p.ended_at IS NULL OR p.ended_at >= :start) AND {differs}"
            f" UNION SELECT {chosen} FROM {kept} AS s JOIN {TABLE} AS p ON {same}"
            f" UNION SELECT {chosen} FROM {fresh} AS s JOIN {TABLE} AS p ON {other}"
            " WHERE (p.ended_at IS NULL OR s.started_at < p.ended_at)"
            f" AND (s.ended_at IS NULL OR s.ended_at > p.started_at) AND {differs}"
        ),
        {"start": bound(start) if bound else start},
    )
    deleted = connection.execute(
        text(f"DELETE FROM {TABLE} WHERE ({', '.join(KEYS)}) IN (SELECT {', '.join(KEYS)} FROM {gone})")
    ).rowcount
    confirmed = connection.execute(
        text(
            f"UPDATE {TABLE} AS p SET confirmed_until = s.confirmed_until, confirmed_by = s.confirmed_by"
            f" FROM {stage} AS s WHERE {same}"
            " AND (s.confirmed_until <> p.confirmed_until OR s.confirmed_by <> p.confirmed_by)"
        )
    ).rowcount
    # Few rows are new. Only these are sent as a whole.
    new = connection.execute(
        text(f"SELECT s.number FROM {fresh} AS s WHERE NOT EXISTS (SELECT 1 FROM {TABLE} AS p WHERE {same})")
    ).scalars()
    rows = table.take(pa.array(sorted(new), pa.int64())).select(columns)
    bulk_insert(connection, TABLE, rows)
    for name in (stage, fresh, kept, gone):
        connection.execute(text(f"DROP TABLE {name}"))
    return int(max(deleted, rows.num_rows) + confirmed)


def _moved(table: pa.Table, heads: Mapping[Key, int]) -> pa.Table:
    """The keys of periods that were open at a moment, and start at another time now; or there is none."""
    starts = table["started_at"].cast(TIME).cast(pa.int64())
    now = zip(table["resource_type"].to_pylist(), table["resource_id"].to_pylist(), starts.to_pylist(), strict=True)
    moved = sorted({(*key, at) for key, at in heads.items()}.difference(now))
    kinds, ids, moments = zip(*moved, strict=True) if moved else ((), (), ())
    return pa.table(
        [pa.array(kinds, pa.string()), pa.array(ids, pa.string()), pa.array(moments, pa.int64()).cast(TIME)], [*KEYS]
    )
