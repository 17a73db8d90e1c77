"""Converts arrival hours again by the definitions of now: what their notifications yielded before is replaced whole.

Of an hour of `samples`, only those that notifications yielded are replaced (`origin`): what was loaded or measured
stays. New files are written first, then one commit puts them in the place of the old ones, so a reader sees either all
of the old rows or all of the new. The commit names the event hours whose points it changes, which the catalog then
marks. If nothing changes, there is no commit.

This needs no lock against a conversion that is running. It converts the notifications up to the version that the
table's files have converted, and takes these files out of the table. What is appended meanwhile comes of later ones.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from string import Template
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from meterhouse import sql_files
from meterhouse.conversion import used
from meterhouse.conversion.convert import Converted, Converter
from meterhouse.conversion.step import APP, Work, keep_metadata
from meterhouse.errors import Conflict, DefinitionError, MeterhouseError
from meterhouse.site import Site
from meterhouse.stores.duck import Connection, arrow, one
from meterhouse.stores.lake import REPLACE, is_append
from meterhouse.stores.lake_commits import SPANS, spans_text
from meterhouse.stores.lake_files import DataFile
from meterhouse.stores.lake_tables import FROM_NOTIFICATIONS
from meterhouse.stores.leases import Lease
from meterhouse.stores.point_identity import identified

LEASE = "redefine"

PREFIX = "redefined"
"""How the names of the files start. What a killed process leaves of them are no rows that the table lacks."""

ATTEMPTS = 5

NOTIFICATIONS_AT_ONCE, BYTES_AT_ONCE = 20_000, 32 << 20
"""Notifications are converted together up to about this many, and this many bytes of their bodies."""

_READ_AT_ONCE = 2_000

_ROWS_AT_ONCE = 200_000

_EVENTS_DIGEST = """
SELECT count(*), sum(hash(message_id, event_type, generated, traits, raw))
FROM (SELECT DISTINCT message_id, event_type, generated, traits, raw FROM {view})
"""


@dataclass
class Redefined:
    """What converting an hour again did.

    Attributes:
        notifications: how many were converted.
        rows: how many rows of the table they yield.
        errors: parts of messages that were not converted.
        event_hours: the event hours whose points changed; of events, always empty.
        changed: whether anything did.
    """

    notifications: int = 0
    rows: int = 0
    errors: int = 0
    event_hours: frozenset[datetime] = frozenset()
    changed: bool = False


@dataclass(frozen=True)
class _State:
    """An arrival hour of the table at one moment.

    Attributes:
        reached: the version of `notifications` up to which the table has converted them.
        files: the table's files, rows of `Lake.actions`.
        later: files of `notifications` that came after that version.
    """

    reached: int
    files: pa.Table
    later: frozenset[str]


class Redefinition:
    """Converts hours of `samples` or `events` again, by the definitions at its start.

    Args:
        site: the site.
        table: `samples` or `events`.
        lease: that of the step LEASE.

    Raises:
        DefinitionError: a file cannot be read, or a meter is invalid: its samples of the past would be removed.
    """

    def __init__(self, site: Site, table: str, lease: Lease) -> None:
        self._site, self._lake, self._table, self._lease = site, site.lake, table, lease
        self._work = Work.of(site)
        refuse_faults(self._work)
        self.meaning = self._work.meanings[table]
        self._trusting = Converter.from_settings(replace(site.settings, telemetry_secret=""), self._work.definitions)

    def convert(self, hour: str) -> Redefined:
        """Replace what the notifications of an arrival hour yielded.

        Raises:
            LeaseLost: another process has taken the lease over.
            Conflict: other processes keep changing the hour's files; it stayed as it was.
            MeterhouseError: a file cannot be read or written, or it is unknown where samples came from; the hour stayed
                as it was.
        """
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return self._convert(hour)
            except Conflict:
                with self._lease.begin():  # raises if the lease is lost
                    pass
                if attempt == ATTEMPTS:
                    raise
        raise AssertionError

    def _convert(self, hour: str) -> Redefined:
        done, state = Redefined(), self._state(hour)
        old, staying = self._replaceable(hour, state.files)
        files: list[DataFile] = []
        try:
            for notifications in self._notifications(hour, state.later):
                rows, made = self._rows(notifications, old)
                keep_metadata(self._lease, made.metadata)
                files += self._lake.write_files(self._table, rows, PREFIX)
                done.notifications += notifications.num_rows
                done.rows += rows.num_rows
                done.errors += len(made.errors)
            for rows in staying:
                files += self._lake.write_files(self._table, rows, PREFIX)
            self._compare(old, files, done)
            if done.changed:
                self._swap(old, files, done)
        except BaseException:
            self._lake.discard(self._table, files)
            raise
        if not done.changed:
            self._lake.discard(self._table, files)
        with self._lease.begin() as connection:
            used.replaced(connection, self._table, hour, self.meaning, state.reached)
        return done

    # -- what there is ------------------------------------------------------------------------------------------

    def _state(self, hour: str) -> _State:
        lake, name = self._lake, self._table
        while True:
            version = lake.version(name)
            reached, files = lake.transaction(name, APP) or 0, lake.matching(name, partitions={"arrival_hour": [hour]})
            if lake.version(name) == version:
                break
        newest = lake.version("notifications")
        later = {
            str(added["path"])
            for commit in lake.commits("notifications", reached, newest)
            if is_append(commit)
            for added in commit.added
        }
        return _State(reached, files, frozenset(later))

    def _replaceable(self, hour: str, files: pa.Table) -> tuple[pa.Table, Iterator[pa.Table]]:
        """The files that are replaced, and the rows among theirs that stay.

        Raises:
            MeterhouseError: a release that kept no origin has written samples of the hour.
        """
        if self._table != "samples":
            return files, iter(())
        pure = [_origin(file) for file in files.to_pylist()]
        old = files.filter(pa.array([origin in (None, *FROM_NOTIFICATIONS) for origin in pure], pa.bool_()))
        mixed = files.filter(pa.array([origin is None for origin in pure], pa.bool_()))
        return old, self._others(hour, mixed)

    def _others(self, hour: str, mixed: pa.Table) -> Iterator[pa.Table]:
        """The rows of files that notifications did not yield."""
        if not mixed.num_rows:
            return
        with self._lake.connect() as duck:
            self._view(duck, "mixed", mixed["path"].to_pylist())
            (unknown,) = one(duck, "SELECT count(*) FILTER (origin IS NULL) FROM mixed")
            if unknown:
                raise MeterhouseError(
                    f"{unknown} samples that arrived at {hour} were written by a release that did not keep where they "
                    "came from: they may have been loaded, so the hour stays as it is",
                    where=self._lake.uri(self._table),
                    hint="Leave such hours out, by --from and --to",
                )
            found = duck.sql(f"FROM mixed WHERE origin NOT IN {FROM_NOTIFICATIONS}").to_arrow_reader(_ROWS_AT_ONCE)
            for batch in found:
                yield pa.Table.from_batches([batch])

    def _notifications(self, hour: str, later: Collection[str]) -> Iterator[pa.Table]:
        """The notifications of an arrival hour, in pieces of bounded size."""
        waiting: list[pa.Table] = []
        rows = size = 0
        found = self._lake.pieces("notifications", {"arrival_hour": [hour]}, _READ_AT_ONCE, later)
        for piece in found:
            more = piece["body"].nbytes
            if waiting and (rows + len(piece) > NOTIFICATIONS_AT_ONCE or size + more > BYTES_AT_ONCE):
                yield pa.concat_tables(waiting).combine_chunks()
                waiting, rows, size = [], 0, 0
            waiting.append(piece)
            rows += len(piece)
            size += more
        if waiting:
            yield pa.concat_tables(waiting).combine_chunks()

    def _view(self, duck: Connection, view: str, paths: Collection[str]) -> None:
        self._lake.view(duck, self._table, [f"{self._lake.uri(self._table)}/{path}" for path in paths], view)

    # -- what comes in its place --------------------------------------------------------------------------------

    def _rows(self, notifications: pa.Table, old: pa.Table) -> tuple[pa.Table, Converted]:
        """The rows that notifications yield.

        A signature was verified when it came, by the secret of that time. So of a batch that today's secret does not
        verify, the samples stay that are there, and no others.
        """
        made = self._work.converter.convert(notifications)
        if self._table != "samples":
            return made.events, made
        if not made.unsigned:
            return made.samples, made
        batches = pa.array(sorted({row for row, _, _ in made.unsigned}), pa.int64())
        places = pa.array(range(notifications.num_rows), pa.int64())
        others = notifications.filter(pc.invert(pc.is_in(places, batches)))
        made = self._work.converter.convert(others)
        trusted = self._trusting.convert(notifications.take(batches))
        made.metadata.update(trusted.metadata)
        return pa.concat_tables([made.samples, self._present(trusted.samples, old)]), made

    def _present(self, offered: pa.Table, old: pa.Table) -> pa.Table:
        """The samples whose points are in files."""
        with self._lake.connect() as duck:
            self._view(duck, "present", old["path"].to_pylist())
            duck.register("offered", offered.append_column("_row", pa.array(range(offered.num_rows), pa.int64())))
            found = arrow(
                duck,
                f"SELECT _row FROM ({identified('offered')}) SEMI JOIN ({identified('present')}) "
                "USING (series_id, timestamp, delta_id, level) ORDER BY _row",
            )
        return offered.take(found["_row"])

    def _compare(self, old: pa.Table, files: list[DataFile], done: Redefined) -> None:
        """Find out what changes."""
        with self._lake.connect() as duck:
            self._view(duck, "before", old["path"].to_pylist())
            self._view(duck, "now", [file.path for file in files])
            if self._table == "samples":
                before, now = (_points_by_hour(duck, view) for view in ("before", "now"))
                done.event_hours = frozenset(
                    hour for hour in before.keys() | now.keys() if before.get(hour) != now.get(hour)
                )
                done.changed = bool(done.event_hours)
            else:
                digests = {one(duck, _EVENTS_DIGEST.format(view=view)) for view in ("before", "now")}
                done.changed = len(digests) > 1

    def _swap(self, old: pa.Table, files: list[DataFile], done: Redefined) -> None:
        note = {REPLACE: "definitions"}
        if self._table == "samples":
            note[SPANS] = spans_text(done.event_hours)
        for attempt in range(1, ATTEMPTS + 1):
            try:
                self._lake.swap(self._table, old, files, note, same_rows=False, lease=self._lease)
                return
            except Conflict:
                # Maybe only another hour's files were swapped at the same moment.
                if attempt == ATTEMPTS or not self._lake.live(self._table).issuperset(old["path"].to_pylist()):
                    raise


def refuse_faults(work: Work) -> None:
    """Refuse definitions of which some are left out.

    Raises:
        DefinitionError: a meter is invalid.
    """
    for fault in work.definitions.faults:
        if not fault.hidden:
            raise DefinitionError(
                f"meter '{fault.name}' is left out, so its samples of the past would be removed: {fault.reason}",
                where=f"{fault.file}:{fault.line}",
                hint="Fix the meter, or remove it from the file",
            )


def _origin(file: Mapping[str, Any]) -> str | None:
    """The origin of all samples of a file (a row of `Lake.actions`); None if they have several, or it is not known."""
    first, last = file.get("min.origin"), file.get("max.origin")
    alike = first == last or (first in FROM_NOTIFICATIONS and last in FROM_NOTIFICATIONS)
    return first if alike and file.get("null_count.origin") == 0 else None


def _points_by_hour(duck: Connection, view: str) -> dict[datetime, tuple[Any, ...]]:
    query = Template(sql_files.read("lake/points_by_hour.sql")).substitute(identified=identified(view))
    return {row[0]: row[1:] for row in duck.execute(query).fetchall()}
