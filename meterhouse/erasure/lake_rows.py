"""Replaces rows of the lake's tables that have personal data of a user.

A file that has such rows is written again, as a whole, and one commit puts the new files in the place of the old ones.
It names no event hours: points and figures stay what they are, so nothing becomes dirty. The commits say how many rows
they changed, so that a run that was killed is counted too.
"""

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from meterhouse import computed, identity
from meterhouse.collection.new_points import content_ids
from meterhouse.conversion.signatures import signed_again
from meterhouse.erasure.renamed import DIMENSIONS, USERS, Renamed
from meterhouse.errors import Conflict, MeterhouseError, Replaced
from meterhouse.personal_data import Person
from meterhouse.progress import Progress, no_progress
from meterhouse.site import Site
from meterhouse.stores.lake import REPLACE
from meterhouse.stores.lake_erasures import PREFIX
from meterhouse.stores.lake_files import DataFile
from meterhouse.stores.lake_tables import LOADED, TABLES, columns_of_files
from meterhouse.stores.leases import Lease

ERASED: Final = "meterhouse.erased"
"""Commit metadata key: the number of the erasure, and how many rows it changed."""

POINTS: Final = ("samples", "quarantine", "derived")

LEASES: Final = {
    "notifications": "archive",
    "events": "convert",
    "samples": "convert",
    "dead_letters": "dead_letters",
    "quarantine": "sample_quality",
    "derived": "rollups",
    "rollups": "rollups",
    "evidence": "periods",
    "resource_states": "periods",
}
"""Table → the lease by which a commit to it is fenced."""

OF_RESOURCES: Final = {
    "evidence": (
        *("resource_id", "reporter", "project_id", "user_id", "name", "flavor", "state", "host", "zone", "image"),
        "measures",
    ),
    "resource_states": ("resource_id", "state"),
}
"""Tables of what is known of resources, and their columns that may have personal data. Figures are told by some of
them: `erase` refuses texts that are words of these."""

FILES_AT_ONCE: Final = 100
"""About how many files one commit replaces at most."""

ATTEMPTS: Final = 5

_TEXTS_AT_ONCE: Final = 2_000
_POINTS_AT_ONCE: Final = 500_000
_WRITING: Final = re.compile(r"-[0-9a-f]{32}(-\d+)?\.")

Flags = npt.NDArray[np.bool_]

Values = dict[str, frozenset[str]]
"""By message_id, the values of a notification that are personal data of the user."""


@dataclass
class _Pending:
    """Files of a table that are to be replaced in one commit."""

    gone: list[str] = field(default_factory=list)
    added: list[DataFile] = field(default_factory=list)


@dataclass
class LakeRows:
    """Replaces rows of the lake's tables.

    Args:
        site: the site.
        person: whose data is erased.
        renamed: the ids that change.
        erasure_id: the number of the erasure.
        leases: all that steps need which write these tables; None to count only.
        rows: by table, how many rows were changed, or would be.
        described: by key, values of fields that describe the user in notifications, and how many messages have them.
    """

    site: Site
    person: Person
    renamed: Renamed
    erasure_id: int = 0
    leases: Mapping[str, Lease] | None = None
    rows: Counter[str] = field(default_factory=Counter)
    described: Counter[tuple[str, str]] = field(default_factory=Counter)
    _pending: dict[str, _Pending] = field(default_factory=dict)
    _noted: Counter[str] = field(default_factory=Counter)

    def replace(self, progress: Progress = no_progress) -> None:
        """Replace the rows of all tables, those of messages first.

        Raises:
            Conflict: another process has taken a lease over, or keeps changing a table.
            Damaged: a file cannot be read.
        """
        files = {name: self.site.lake.actions(name).select(["path"])["path"].to_pylist() for name in TABLES}
        total, done = sum(map(len, files.values())), 0

        def step(number: int) -> None:
            nonlocal done
            done += number
            progress(done, total)

        self._messages(files["notifications"], files["events"], step)
        self._each("dead_letters", files["dead_letters"], self._letters_in, self._without_letters, _TEXTS_AT_ONCE, step)
        for name in POINTS:
            self._each(name, files[name], self._points_in, self._without_points, _POINTS_AT_ONCE, step)
        self._rollups(files["rollups"], step)
        for name, columns in OF_RESOURCES.items():
            count, without = partial(self._resources_in, columns), partial(self._without_resources, columns)
            self._each(name, files[name], count, without, _TEXTS_AT_ONCE, step)

    # -- notifications and events -------------------------------------------------------------------------------

    def _messages(self, notifications: list[str], events: list[str], step: Callable[[int], None]) -> None:
        """Hour by hour, because a notification says what is personal in the traits of its event.

        Events are replaced first: a run that was killed in between still has the notifications.
        """
        by_hour: dict[str, tuple[list[str], list[str]]] = {}
        for number, paths in enumerate((notifications, events)):
            for path in paths:
                by_hour.setdefault(path.partition("/")[0], ([], []))[number].append(path)
        for _, (messages, made) in sorted(by_hour.items()):
            values: Values = {}
            rewritten = [path for path in messages if self._notifications_in(path, values)]
            for path in made:
                count, without = partial(self._events_in, values), partial(self._without_traits, values)
                self._one("events", path, count, without, _TEXTS_AT_ONCE)
            for path in rewritten:
                self._write("notifications", path, self._without_bodies, _TEXTS_AT_ONCE)
            step(len(messages) + len(made))
            if any(len(pending.gone) >= FILES_AT_ONCE for pending in self._pending.values()):
                self._commit("events")
                self._commit("notifications")
        self._commit("events")
        self._commit("notifications")

    def _notifications_in(self, path: str, values: Values) -> int:
        count = 0
        for rows in self.site.lake.pieces_of("notifications", path, _TEXTS_AT_ONCE, ["message_id", "body"]):
            chosen = rows.filter(self._may_have(rows["body"]))
            for message_id, body in zip(*(chosen[name].to_pylist() for name in ("message_id", "body")), strict=True):
                if self.person.is_in(body):
                    count += 1
                    fields = self.person.personal(body)
                    self.described.update(field for field in fields if not self.person.names(field[1]))
                    values[message_id] = frozenset(value for _, value in fields)
        self.rows["notifications"] += count
        return count

    def _without_bodies(self, rows: pa.Table) -> pa.Table:
        secret = self.site.settings.telemetry_secret

        def without(body: str) -> str:
            return signed_again(body, self.person.body(body), secret)

        return self._changed_texts(rows, self._may_have(rows["body"]), body=without, publisher_id=self.person.value)

    def _events_in(self, values: Values, name: str, path: str) -> int:
        wanted = ["message_id", "traits", "raw"]
        count = 0
        for rows in self.site.lake.pieces_of(name, path, _TEXTS_AT_ONCE, wanted):
            some = rows.filter(self._may_be_event(rows, values)).select(wanted).to_pylist()
            count += sum(self._trait_rows(row, values) != row for row in some)
        return count

    def _without_traits(self, values: Values, rows: pa.Table) -> pa.Table:
        chosen = self._may_be_event(rows, values)
        some = rows.filter(chosen)
        changed = pa.Table.from_pylist([self._trait_rows(row, values) for row in some.to_pylist()], rows.schema)
        return pa.concat_tables([rows.filter(pc.invert(chosen)), changed])

    def _may_be_event(self, rows: pa.Table, values: Values) -> pa.Array:
        """Which events may have personal data."""
        chosen = pc.is_in(rows["message_id"], pa.array(list(values), pa.string())).combine_chunks()
        chosen = pc.or_(chosen, self._may_have(rows["raw"]))
        traits = rows["traits"].combine_chunks()
        texts = pc.struct_field(pc.list_flatten(traits), "value")
        parents = pc.list_parent_indices(traits).filter(self._may_have(texts))
        return pc.or_(chosen, pc.is_in(pa.array(np.arange(len(rows)), pa.int64()), parents.cast(pa.int64())))

    def _trait_rows(self, row: dict[str, Any], values: Values) -> dict[str, Any]:
        """An event without personal data: the id, and the values that its notification has for what describes the user.

        If the notification is no longer there, traits are told by their names, beside one that has the id.
        """
        personal = values.get(row["message_id"])
        traits = row["traits"] or []
        if personal is None:
            named = {trait["name"]: trait["value"] for trait in traits if trait["value"] is not None}
            personal = frozenset(value for _, value in self.person.personal(json.dumps(named)))
        without = [
            {**trait, "value": self.person.pseudonym if trait["value"] in personal else self._value(trait["value"])}
            for trait in traits
        ]
        raw = row["raw"] and self.person.body(row["raw"])
        return {**row, "traits": without if row["traits"] is not None else None, "raw": raw}

    def _value(self, text: str | None) -> str | None:
        return None if text is None else self.person.value(text)

    def _may_have(self, texts: pa.ChunkedArray | pa.Array) -> pa.Array:
        """Which texts have one of the needles; false for null."""
        found = pa.array(np.zeros(len(texts), np.bool_))
        for needle in self.person.needles:
            match = pc.fill_null(pc.match_substring(texts, needle), False)
            found = pc.or_(found, match.combine_chunks() if isinstance(match, pa.ChunkedArray) else match)
        return found

    def _changed_texts(self, rows: pa.Table, chosen: pa.Array, **how: Callable[[str], str]) -> pa.Table:
        some = rows.filter(chosen)
        for name, without in how.items():
            texts = [None if text is None else without(text) for text in some[name].to_pylist()]
            some = some.set_column(rows.schema.get_field_index(name), rows.schema.field(name), [texts])
        return pa.concat_tables([rows.filter(pc.invert(chosen)), some])

    # -- dead letters -------------------------------------------------------------------------------------------

    def _letters_in(self, name: str, path: str) -> int:
        pieces = self.site.lake.pieces_of(name, path, _TEXTS_AT_ONCE)
        return sum(_without_letter(row, self.person) != row for rows in pieces for row in self._letters(rows)[1])

    def _without_letters(self, rows: pa.Table) -> pa.Table:
        chosen, some = self._letters(rows)
        changed = pa.Table.from_pylist([_without_letter(row, self.person) for row in some], rows.schema)
        return pa.concat_tables([rows.filter(pc.invert(chosen)), changed])

    def _letters(self, rows: pa.Table) -> tuple[pa.Array, list[dict[str, Any]]]:
        """Which letters may have personal data, and these."""
        chosen = pc.or_(self._may_have(rows["reason"]), self._may_have(rows["headers"]))
        chosen = pc.or_(chosen, self._may_have(rows["queue"]))
        for needle in self.person.needles:
            match = pc.match_substring(rows["body"], needle.encode("utf-8", "replace"))
            chosen = pc.or_(chosen, match.combine_chunks())
        return chosen, rows.filter(chosen).to_pylist()

    # -- points -------------------------------------------------------------------------------------------------

    def _points_in(self, name: str, path: str) -> int:
        there = [each for each in (*USERS, "metadata_id") if each in columns_of_files(name).names]
        pieces = self.site.lake.pieces_of(name, path, _POINTS_AT_ONCE, there)
        return sum(
            int(np.count_nonzero(self._columns_without(rows, USERS)[1] | self._snapshots(rows)[1])) for rows in pieces
        )

    def _without_points(self, rows: pa.Table) -> pa.Table:
        columns, named = self._columns_without(rows, USERS)
        for name, texts in columns.items():
            rows = rows.set_column(rows.schema.get_field_index(name), name, texts)
        rows = self._with_snapshots(rows)
        if not named.any():
            return rows
        before = rows["series_id"].to_numpy()
        ids, first, place = np.unique(before[named], return_index=True, return_inverse=True)
        some = rows.select(DIMENSIONS).take(pa.array(np.flatnonzero(named)[first]))
        made = np.array([identity.series_id(*row.values()) for row in some.to_pylist()], np.int64)
        after = before.copy()
        after[named] = made[place]
        if "origin" in rows.column_names and len(ids):
            rows = _with_content_ids(rows, before, after)
        return rows.set_column(rows.schema.get_field_index("series_id"), "series_id", pa.array(after))

    def _columns_without(self, rows: pa.Table, names: Iterable[str]) -> tuple[dict[str, pa.Array], Flags]:
        """Columns of texts without personal data, if that changes them, and which rows it changes."""
        found: dict[str, pa.Array] = {}
        changed = np.zeros(len(rows), np.bool_)
        for name in names:
            coded = rows[name].combine_chunks().dictionary_encode()
            texts = coded.dictionary.to_pylist()
            without = [self._value(text) for text in texts]
            if without != texts:
                differs = np.array([a != b for a, b in zip(texts, without, strict=True)])
                codes = pc.fill_null(coded.indices, 0).to_numpy()
                changed |= differs[codes] & pc.is_valid(coded.indices).to_numpy(zero_copy_only=False)
                found[name] = pa.array(without, pa.string()).take(coded.indices)
        return found, changed

    def _snapshots(self, rows: pa.Table) -> tuple[npt.NDArray[np.int64], Flags]:
        """The metadata_id of each row, 0 where it is null, and which of them change."""
        known = self.renamed.metadata_ids
        if not known or "metadata_id" not in rows.column_names:
            return np.zeros(len(rows), np.int64), np.zeros(len(rows), np.bool_)
        column = rows["metadata_id"].combine_chunks()
        ids = pc.fill_null(column, 0).to_numpy()
        return ids, np.isin(ids, list(known)) & pc.is_valid(column).to_numpy(zero_copy_only=False)

    def _with_snapshots(self, rows: pa.Table) -> pa.Table:
        ids, changed = self._snapshots(rows)
        if not changed.any():
            return rows
        made = pa.array(mapped(ids, self.renamed.metadata_ids), mask=rows["metadata_id"].is_null().to_numpy())
        return rows.set_column(rows.schema.get_field_index("metadata_id"), "metadata_id", made)

    # -- roll-ups -----------------------------------------------------------------------------------------------

    def _rollups(self, paths: Sequence[str], step: Callable[[int], None]) -> None:
        """Roll-ups have no texts: the ids of series and of metadata change."""
        lake, known = self.site.lake, self.renamed.series_ids
        for path in paths if known or self.renamed.metadata else ():
            count = 0
            for rows in lake.pieces_of("rollups", path, _POINTS_AT_ONCE, ["series_id", "metadata_id"]):
                named = np.isin(rows["series_id"].to_numpy(), list(known))
                count += int(np.count_nonzero(named | self._snapshots(rows)[1]))
            self.rows["rollups"] += count
            if count and self.leases is not None:
                self._write_rollups(path)
            step(1)
            self._commit_if_many("rollups")
        self._commit("rollups")

    def _write_rollups(self, path: str) -> None:
        lake = self.site.lake
        values = dict(part.split("=", 1) for part in path.split("/")[:-1])
        rows = self._with_snapshots(lake.rows_of("rollups", path, values))
        ids = pa.array(mapped(rows["series_id"].to_numpy(), self.renamed.series_ids))
        rows = rows.set_column(rows.schema.get_field_index("series_id"), "series_id", ids)
        rows = rows.sort_by([("series_id", "ascending"), ("bucket", "ascending")])
        prefix = _WRITING.split(path.rpartition("/")[2])[0]  # it says whether a day is over
        made = lake.write_part("rollups", values, rows.select(columns_of_files("rollups").names), prefix)
        self._add("rollups", path, [made])

    # -- resources ----------------------------------------------------------------------------------------------

    def _resources_in(self, columns: Sequence[str], name: str, path: str) -> int:
        pieces = self.site.lake.pieces_of(name, path, _TEXTS_AT_ONCE, list(columns))
        return sum(int(np.count_nonzero(self._columns_without(rows, columns)[1])) for rows in pieces)

    def _without_resources(self, columns: Sequence[str], rows: pa.Table) -> pa.Table:
        for name, texts in self._columns_without(rows, columns)[0].items():
            rows = rows.set_column(rows.schema.get_field_index(name), name, texts)
        return rows

    # -- files --------------------------------------------------------------------------------------------------

    def _each(
        self,
        name: str,
        paths: Sequence[str],
        count: Callable[[str, str], int],
        without: Callable[[pa.Table], pa.Table],
        at_once: int,
        step: Callable[[int], None],
    ) -> None:
        for path in paths:
            self._one(name, path, count, without, at_once)
            step(1)
            self._commit_if_many(name)
        self._commit(name)

    def _one(
        self,
        name: str,
        path: str,
        count: Callable[[str, str], int],
        without: Callable[[pa.Table], pa.Table],
        at_once: int,
    ) -> None:
        found = count(name, path)
        self.rows[name] += found
        if found:
            self._write(name, path, without, at_once)

    def _write(self, name: str, path: str, without: Callable[[pa.Table], pa.Table], at_once: int) -> None:
        """Write a file again."""
        if self.leases is None:
            return
        files: list[DataFile] = []
        read = written = 0
        for rows in self.site.lake.pieces_of(name, path, at_once):
            made = without(rows)
            read, written = read + len(rows), written + len(made)
            files += self.site.lake.write_files(name, made, PREFIX)
        if read != written:  # a fault of this module: nothing was replaced yet
            self.site.lake.discard(name, files)
            raise MeterhouseError(f"of {read} rows, {written} would stay; nothing was replaced", where=path)
        self._add(name, path, files)

    def _add(self, name: str, path: str, files: Iterable[DataFile]) -> None:
        pending = self._pending.setdefault(name, _Pending())
        pending.gone.append(path)
        pending.added += files

    def _commit_if_many(self, name: str) -> None:
        if name in self._pending and len(self._pending[name].gone) >= FILES_AT_ONCE:
            self._commit(name)

    def _commit(self, name: str) -> None:
        pending = self._pending.pop(name, None)
        if pending is None or self.leases is None:
            return
        lake, lease = self.site.lake, self.leases[LEASES[name]]
        counted = self.rows[name] - self._noted[name]
        note = {REPLACE: "erasure", ERASED: f"{self.erasure_id} {counted}"}
        for attempt in range(1, ATTEMPTS + 1):
            actions = lake.actions(name)
            gone = actions.filter(pc.is_in(actions["path"], pa.array(pending.gone, pa.string())))
            try:
                if len(gone) != len(pending.gone):
                    raise Conflict(f"another process has changed {name} in the meantime", hint="Run it again")
                lake.swap(name, gone, pending.added, note, same_rows=False, lease=lease)
                break
            except Conflict:
                if attempt == ATTEMPTS or not lake.live(name).issuperset(pending.gone):
                    lake.discard(name, pending.added)
                    raise
        self._noted[name] = self.rows[name]
        if name in computed.TABLES:
            with lease.begin() as connection:
                computed.record(self.site, connection, name)


def committed(site: Site, erasure_id: int, versions: Mapping[str, int]) -> tuple[Counter[str], dict[str, set[str]]]:
    """By table, how many rows the commits of an erasure changed after these versions, and the files that they removed.

    What is no longer in the log is not counted.
    """
    rows, removed = Counter[str](), dict[str, set[str]]()
    for name, version in versions.items():
        with suppress(Replaced):
            for commit in site.lake.commits(name, version, site.lake.version(name)):
                number, _, count = str(commit.info.get(ERASED, "")).partition(" ")
                if number == str(erasure_id):
                    rows[name] += int(count)
                    removed.setdefault(name, set()).update(action["path"] for action in commit.removed)
    return +rows, removed


def mapped(ids: npt.NDArray[np.int64], known: Mapping[int, int]) -> npt.NDArray[np.int64]:
    """Ids with those in the place of others that are known."""
    if not known:
        return ids
    old = np.array(sorted(known), np.int64)
    new = np.array([known[each] for each in old.tolist()], np.int64)
    at = np.minimum(np.searchsorted(old, ids), len(old) - 1)
    return np.where(old[at] == ids, new[at], ids)


def _with_content_ids(rows: pa.Table, before: npt.NDArray[np.int64], after: npt.NDArray[np.int64]) -> pa.Table:
    """The rows with other ids of loaded deltas, which are made from the series: so a file loaded again counts once."""
    chosen = pc.and_(pc.equal(rows["origin"], LOADED), pc.equal(rows["type"], "delta"))
    chosen = pc.and_(pc.fill_null(chosen, False), pc.is_valid(rows["sample_id"]))
    left = np.flatnonzero(chosen.combine_chunks().to_numpy(zero_copy_only=False) & (before != after))
    ids = pc.fill_null(rows["sample_id"], 0).to_numpy().copy()
    micros = rows["timestamp"].cast(pa.int64()).to_numpy()
    volumes = rows["volume"].to_numpy()
    ordinal = 0
    while len(left) and ordinal <= len(rows):
        place = np.full(len(left), ordinal, np.int64)
        same = content_ids(before[left], micros[left], volumes[left], place) == ids[left]
        made = left[same]
        ids[made] = content_ids(after[made], micros[made], volumes[made], place[same])
        if not same.any() and ordinal > _ORDINALS:
            break
        left = left[~same]
        ordinal += 1
    made_ids = pa.array(ids, mask=rows["sample_id"].is_null().to_numpy())
    return rows.set_column(rows.schema.get_field_index("sample_id"), "sample_id", made_ids)


_ORDINALS: Final = 100
"""Ids of loaded deltas are looked for up to this place among equal ones, if none was found before."""


def _without_letter(row: dict[str, Any], person: Person) -> dict[str, Any]:
    """A dead letter without personal data. Its id stays that of the letter as it came."""
    body = person.body(row["body"].decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")
    headers = None if row["headers"] is None else person.body(row["headers"])
    texts = {name: person.value(row[name] or "") or row[name] for name in ("queue", "reason")}
    return {**row, **texts, "body": body, "headers": headers}
