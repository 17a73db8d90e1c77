"""The lake: Delta tables on a local folder or S3, read by DuckDB, and plain files beside them."""

import contextlib
import json
import logging
import os
import re
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property, partial
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from deltalake import CommitProperties, DeltaTable, Field, Schema, Transaction
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

from meterhouse import cancelling, costs, times
from meterhouse.errors import Conflict, Damaged, MeterhouseError, Replaced
from meterhouse.extras import require
from meterhouse.personal_data import ErasedUsers
from meterhouse.private_files import make_folder
from meterhouse.settings import Settings
from meterhouse.stores import duck, lake_commits, lake_faults, lake_log, lake_repair, lake_vacuum
from meterhouse.stores.disk import sync
from meterhouse.stores.lake_files import PART, DataFile, write, write_part
from meterhouse.stores.lake_footers import Footer, Footers
from meterhouse.stores.lake_statistics import has_bounds
from meterhouse.stores.lake_tables import GROWN, LANDING_TABLES, TABLES
from meterhouse.stores.object_files import ObjectFiles
from meterhouse.times import Span

if TYPE_CHECKING:
    from fsspec import AbstractFileSystem

    from meterhouse.stores.leases import Lease

logger = logging.getLogger(__name__)

SWAPS = "swaps"
"""The application transaction that counts the commits that replace files of a table."""

REPLACE = "meterhouse.replace"
"""Commit metadata key of a replacement of rows. Followers of a table skip it."""

SEAL = "meterhouse.seal"
"""Commit metadata key of a rewrite that changes no data. Followers of a table skip it."""

ROWS = "meterhouse.rows"
"""Commit metadata key for the number of rows of an append."""

BYTES = "meterhouse.bytes"
"""Commit metadata key for the number of bytes of an append's rows, if its writer gives it."""

REOPENED = 20
"""An open table is opened again after this many commits: delta-rs keeps all that it has listed since."""

CLOCKS = 600
"""By how many seconds the clocks of processes that commit may differ."""

NOTHING: Mapping[str, int] = {}

MEND = "Run `meterhouse doctor --mend`"
"""What to do about a damaged file, or a table that went back."""

PROPERTIES = {
    "delta.checkpointInterval": "10",  # a commit after the checkpoint costs an opening 0.4 ms, a checkpoint costs 4 ms
    "delta.enableExpiredLogCleanup": "false",  # see lake_log.py
}

RETENTION = "delta.deletedFileRetentionDuration"

FORGOTTEN = "interval 1 minutes"
"""For how long the checkpoints of a table in a folder name replaced files. `lake_vacuum` finds them in the commits."""

_HIVE_TYPES = {"arrival_hour": "VARCHAR", "event_day": "DATE", "granularity_s": "INTEGER"}


@dataclass(frozen=True)
class Appended:
    """Rows that were appended to a table after some version, up to and including `version`."""

    rows: pa.Table
    version: int


@dataclass(frozen=True)
class AppendedFiles:
    """Files that were appended to a table after some version, up to and including `version`.

    Attributes:
        files: Delta's add actions.
        rows: how many rows they have.
        version: the version.
        replaced: the commits in between that replaced rows and say of which event hours, in order.
    """

    files: list[dict[str, Any]]
    rows: int
    version: int
    replaced: tuple[lake_commits.Commit, ...]


@dataclass
class Lake:
    """The lake under one URL.

    Args:
        url: absolute folder, or `s3://bucket/prefix`.
        storage_options: delta-rs's options for the object store; empty for a folder.
        commit_lock: a lock by table name, taken around each commit if the object store itself cannot keep two
            racing commits apart.
        compared: whether this process has compared the computed tables with what the warehouse has recorded of them.
        agrees: whether it has seen that samples and roll-ups are those that the warehouse has followed and recorded.
        erased: the list of erased users that was read last, by its number; see `lake_erasures`.
    """

    url: str
    storage_options: dict[str, str] = field(default_factory=dict)
    memory_limit: str = "1500MB"
    spill: Path | None = None
    commit_lock: Callable[[str], AbstractContextManager[object]] = lambda name: contextlib.nullcontext()
    _open: dict[str, DeltaTable] = field(default_factory=dict, repr=False)
    _states: dict[str, tuple[int, int, int]] = field(default_factory=dict, repr=False)
    _listed: dict[str, tuple[DeltaTable, int, pa.Table]] = field(default_factory=dict, repr=False)
    _rests_on: dict[str, tuple[int, int]] = field(default_factory=dict, repr=False)
    notes_written: bool = False
    compared: bool = False
    agrees: bool = False
    erased: dict[int, ErasedUsers] = field(default_factory=dict, repr=False)
    _written: list[Path] = field(default_factory=list, repr=False)
    _footers: Footers = field(default_factory=Footers, repr=False)

    @classmethod
    def from_settings(
        cls, settings: Settings, commit_lock: Callable[[str], AbstractContextManager[object]] | None = None
    ) -> "Lake":
        """The lake that the settings name."""
        options: dict[str, str] = {}
        if settings.lake.startswith("s3://"):
            require("s3fs")  # delta-rs works without it, so its absence would show late
            options = {"AWS_REGION": settings.s3_region, "AWS_VIRTUAL_HOSTED_STYLE_REQUEST": "false"}
            if settings.s3_endpoint:
                options["AWS_ENDPOINT_URL"] = settings.s3_endpoint
                options["AWS_ALLOW_HTTP"] = str(settings.s3_endpoint.startswith("http://")).lower()
            if settings.s3_access_key:
                options["AWS_ACCESS_KEY_ID"] = settings.s3_access_key
                options["AWS_SECRET_ACCESS_KEY"] = settings.s3_secret_key
        lake = cls(settings.lake, options, settings.memory_limit, settings.home_path / "spill")
        if commit_lock is not None and options:
            lake.commit_lock = commit_lock
        return lake

    # -- tables ---------------------------------------------------------------------------------------------

    def uri(self, name: str) -> str:
        """The table's URI."""
        return f"{self.url}/tables/{name}"

    def table(self, name: str, version: int | None = None) -> DeltaTable:
        """The table as it is now, or as it was at a version; created empty if it does not exist yet.

        Raises:
            MeterhouseError: the object store or folder cannot be reached.
        """
        try:
            if version is not None:
                return self._table_at(name, version)
            known = self._open.get(name)
            is_current = known is not None and self._is_brought_forward(name, known)
            if known is not None and is_current and not self._is_outdated(name, known.version()):
                return known
            known = self._opened_table(name)
            self._add_columns(name, known)
        except (OSError, DeltaError) as error:
            raise self.unreachable(name, error) from error
        self._open[name], self._rests_on[name] = known, self._start_of(name, known)
        if self._holds(name, known.version() - lake_log.LONG):
            self._shorten_log(name)
        return known

    def _is_brought_forward(self, name: str, known: DeltaTable) -> bool:
        """Bring an open table to the newest version; false if commits since then are no longer there."""
        try:
            if not self._is_newest(name, known.version()):
                known.update_incremental()
        except DeltaError:
            if self.filesystem.exists(f"{self.url}/{lake_commits.path_of(name, known.version() + 1)}"):
                raise
            return False
        return True

    def _table_at(self, name: str, version: int) -> DeltaTable:
        """The table as it was at a version, which may be among the older commits."""
        try:
            return DeltaTable(self.uri(name), version=version, storage_options=self.storage_options)
        except DeltaError:
            if version > self.version(name):
                raise
            older = f"{self.url}/{lake_commits.OLDER}/{name}"
            with contextlib.suppress(DeltaError):  # not there either: the first error stands
                return DeltaTable(older, version=version, storage_options=self.storage_options)
            raise

    def _is_newest(self, name: str, version: int) -> bool:
        """Whether this is the newest version of a table in a folder; false if only its whole log can tell.

        Commits are numbered without a gap, and only the oldest are moved elsewhere.
        """
        return not self._holds(name, version + 1) and self._holds(name, version)

    def _start_of(self, name: str, table: DeltaTable) -> tuple[int, int]:
        """The version at which a table was opened, and the oldest commit that it rests on."""
        start = 0
        with contextlib.suppress(OSError, ValueError):  # a table without a checkpoint rests on commit 0
            start = int(json.loads(self.get(f"tables/{name}/_delta_log/_last_checkpoint"))["version"]) + 1
        return table.version(), min(start, table.version())

    def _is_outdated(self, name: str, version: int) -> bool:
        """Whether an open table has to be opened again: delta-rs reads some commits only when they are needed.

        They may be moved by then. It also keeps all that it has listed, and so becomes slower with each commit.
        """
        opened, start = self._rests_on[name]
        return version - opened >= REOPENED or not (self.storage_options or self._holds(name, start))

    def _holds(self, name: str, version: int) -> bool:
        """Whether the log of a table in a folder holds a commit."""
        return not self.storage_options and os.path.exists(f"{self.url}/{lake_commits.path_of(name, version)}")

    def _opened_table(self, name: str) -> DeltaTable:
        """Open a table, without the end of its log if that was cut by a power failure; or create it."""
        log, aside = f"{self.uri(name)}/_delta_log", self.aside(name)
        for repair in (lake_repair.take_out_cut_end, lake_repair.take_out_checkpoints):
            try:
                known = DeltaTable(self.uri(name), storage_options=self.storage_options)
                # delta-rs takes an empty commit for one without actions.
                if lake_commits.parse(self.get(lake_commits.path_of(name, known.version()))) is not None:
                    return known
            except TableNotFoundError:
                return self._create(name)
            except FileNotFoundError:  # the checkpoint is newer than the log that is left
                return known
            except DeltaError:
                pass
            for moved in repair(self.filesystem, log, aside):
                logger.warning("the lake's table %s: a file of its log was empty or cut, and is now %s", name, moved)
        try:
            return DeltaTable(self.uri(name), storage_options=self.storage_options)
        except TableNotFoundError:
            return self._create(name)

    def aside(self, name: str) -> str:
        """The folder for damaged files of a table, beside the tables."""
        return f"{self.url}/damaged/{name}"

    def _create(self, name: str) -> DeltaTable:
        schema, partitions = TABLES[name]
        if not self.storage_options:
            make_folder(Path(self.url))
            Path(self.uri(name)).mkdir(parents=True, exist_ok=True)
        with self.commit_lock(name):
            return DeltaTable.create(
                self.uri(name),
                schema,
                mode="ignore",
                partition_by=partitions,
                storage_options=self.storage_options,
                configuration=PROPERTIES | ({} if self.storage_options else {RETENTION: FORGOTTEN}),
            )

    def _add_columns(self, name: str, table: DeltaTable) -> None:
        """Add the columns that a table of an earlier release lacks; its rows have null there."""
        while missing := _missing_columns(name, table):
            before = table.version()
            try:
                with self.commit_lock(name):
                    table.alter.add_columns(missing)
            except CommitFailedError:
                table.update_incremental()
                if table.version() == before:  # no other process has done the same
                    raise

    def unreachable(self, name: str, error: Exception) -> MeterhouseError:
        """The error for a table that cannot be read or written."""
        # delta-rs prints each cause on its own line, with coloured arrows.
        lines = re.sub(r"\x1b\[\d*m|↳", "", str(error)).splitlines() or [type(error).__name__]
        said = ": ".join(dict.fromkeys(line.strip()[:300] for line in (lines[0], lines[-1])))
        if "NoSuchBucket" in str(error):
            said = self._no_bucket()
        return MeterhouseError(
            f"the lake's table {name} cannot be read or written: {said}",
            where=self.uri(name),
            hint="Check METERHOUSE_LAKE_URL, the disk's free space and, for S3, METERHOUSE_S3_*",
        )

    def _no_bucket(self) -> str:
        return f"there is no bucket {self.url.removeprefix('s3://').partition('/')[0]}"

    def version(self, name: str) -> int:
        """The table's newest version."""
        return self.table(name).version()

    def state(self, name: str) -> tuple[object, ...]:
        """What differs after each commit to the table: its newest version, and, in a folder, the commit's file.

        If another file has its name, the table was restored, and is opened again.
        """
        version = self.version(name)
        if self.storage_options:
            return (version,)
        try:
            found = os.stat(f"{self.url}/{lake_commits.path_of(name, version)}")
        except OSError:
            return (version,)
        state = (version, found.st_ino, found.st_mtime_ns)
        known = self._states.get(name, state)
        if version < known[0] or (version == known[0] and state != known):
            self.agrees = self.compared = False
            self.reopen(name)
        self._states[name] = state
        return state

    def transaction(self, name: str, app: str) -> int | None:
        """The version that an application recorded with its last commit to the table, or None."""
        return self.table(name).transaction_version(app)

    def append(
        self,
        name: str,
        rows: pa.Table,
        *,
        transaction: tuple[str, int] | None = None,
        after: int | None = None,
        beside: Mapping[str, int] = NOTHING,
        lease: "Lease | None" = None,
        note: Mapping[str, str] | None = None,
    ) -> int:
        """Append rows in one commit; return its version.

        Args:
            rows: columns as the table's schema.
            transaction: (application, version) recorded in the same commit.
            after: what the application must have recorded before, 0 for nothing; None for anything lower.
            beside: see `commit`.
            lease: the lease that the step holds, if it needs one.
            note: further commit metadata.

        Raises:
            Conflict: another process has recorded this transaction, or a later one, or has taken the lease over;
                nothing was appended.
        """
        files = self.write_files(name, rows)
        transactions = dict([transaction]) if transaction else {}
        expected = {transaction[0]: after} if transaction and after is not None else {}
        try:
            return self.commit(
                name,
                files,
                rows.num_rows,
                transactions=transactions,
                after=expected,
                beside=beside,
                lease=lease,
                note=note,
            )
        except Conflict:
            self.discard(name, files)
            raise

    def write_files(self, name: str, rows: pa.Table, prefix: str = PART) -> list[DataFile]:
        """Write rows into files of the table, whose names start with `prefix`. No reader sees them before a commit.

        Raises:
            MeterhouseError: they cannot be written.
        """
        if name not in self._open:
            self.table(name)
        try:
            files = write(self.uri(name), name, rows, self.object_store, prefix)
        except OSError as error:
            raise self.unreachable(name, error) from error
        self.wrote(name, *(file.path for file in files))
        return files

    def write_part(
        self, name: str, values: Mapping[str, Any], rows: pa.Table, prefix: str = PART, *, in_order: bool = False
    ) -> DataFile:
        """Write rows of one partition into one file, in their order; see `lake_files.write_part`.

        Raises:
            MeterhouseError: they cannot be written.
        """
        try:
            return write_part(self.uri(name), name, values, rows, self.object_store, prefix, in_order=in_order)
        except OSError as error:
            raise self.unreachable(name, error) from error

    def written(self) -> list[Path]:
        """Files of the landing tables that were written since the last call, if the lake is a folder.

        They may exist only in the system's cache still; an object store has no such cache. Files are recorded from the
        first call on.
        """
        self.notes_written = True
        taken, self._written = self._written, []
        return taken

    def wrote(self, name: str, *paths: str) -> None:
        """Record files of a table, by their paths in its folder, that this process or another has written."""
        if self.notes_written and name in LANDING_TABLES and not self.storage_options:
            self._written += [Path(self.uri(name)) / path for path in paths]

    def discard(self, name: str, files: list[DataFile]) -> None:
        """Delete written files that will not be committed. Files that are in the table stay."""
        # The answer to a commit may be lost on its way from an object store, which then refuses a second one.
        live = self.live(name) if files and self.storage_options else set()
        for file in files:
            if file.path in live:
                continue
            with contextlib.suppress(OSError):
                self.filesystem.rm_file(f"{self.uri(name)}/{file.path}")

    def commit(
        self,
        name: str,
        files: list[DataFile],
        rows: int,
        *,
        transactions: Mapping[str, int],
        after: Mapping[str, int] = NOTHING,
        beside: Mapping[str, int] = NOTHING,
        lease: "Lease | None" = None,
        note: Mapping[str, str] | None = None,
    ) -> int:
        """Append written files in one commit; return its version.

        Args:
            name: the table.
            files: from `write_files`; none where only transactions are to be recorded.
            rows: how many rows they have, all together.
            transactions: application → version, recorded in the same commit.
            after: application → version that it must have recorded before, 0 for nothing.
            beside: further numbers to record as application transactions, in no order.
            lease: the lease that the step holds, if it needs one.
            note: further commit metadata.

        Raises:
            Conflict: another process has recorded one of these transactions, or a later one, or has taken the lease
                over; nothing was appended.
        """
        from deltalake.transaction import AddAction

        schema, partitions = TABLES[name]
        moment = time.time_ns() // 1_000_000
        actions = [AddAction(file.path, file.size, file.partition, moment, True, file.statistics) for file in files]
        table = self.table(name)
        properties = CommitProperties(
            custom_metadata={ROWS: str(rows), **(note or {})},
            app_transactions=[
                *(Transaction(*transaction) for transaction in {**transactions, **beside}.items()),
                *_fence(table, lease),
            ],
        )
        overtaken = Conflict(f"another process has already written this to {name}", hint="Nothing is lost")
        for app, version in transactions.items():
            recorded = table.transaction_version(app)
            if (recorded is not None and recorded >= version) or after.get(app, recorded or 0) != (recorded or 0):
                raise overtaken
        before = table.version()
        self._sync(name, [file.path for file in files])
        try:
            with self.commit_lock(name):
                table.create_write_transaction(
                    list(actions), "append", schema, partitions, commit_properties=properties
                )
        except CommitFailedError as error:
            if "oncurrent" in str(error) or self.version(name) > before:
                raise overtaken from error
            self.discard(name, files)
            raise self.unreachable(name, error) from error
        except (OSError, DeltaError) as error:
            # The commit may have succeeded: the steps after it can fail too.
            if not files or files[0].path not in self.live(name):
                if not self.storage_options:  # an object store may still be processing the request
                    self.discard(name, files)  # otherwise each attempt leaves one more on a full disk
                raise self.unreachable(name, error) from error
        reached = self.version(name)
        if not self._is_committed(name, before, files):
            raise overtaken
        commits = [f"_delta_log/{version:020}.json" for version in range(before + 1, reached + 1)]
        self.wrote(name, *commits)
        self._sync(name, commits)
        if before // lake_log.EVERY != reached // lake_log.EVERY:
            self._shorten_log(name)
        return reached

    def _sync(self, name: str, paths: Sequence[str]) -> None:
        """Sync files of a table in a folder to disk, unless the landing does so, for many batches together.

        Raises:
            MeterhouseError: the disk cannot store them.
        """
        if self.storage_options or not paths or (self.notes_written and name in LANDING_TABLES):
            return
        try:
            sync({Path(self.uri(name)) / path for path in paths})
        except OSError as error:
            raise self.unreachable(name, error) from error

    def live(self, name: str) -> set[str]:
        """The paths of the table's files."""
        return set(self.actions(name)["path"].to_pylist())

    def swap(
        self,
        name: str,
        removed: pa.Table,
        added: list[DataFile],
        note: Mapping[str, str],
        *,
        same_rows: bool,
        after: int | None = None,
        lease: "Lease | None" = None,
    ) -> int:
        """Replace files by written files, in one commit; return its version.

        Args:
            name: the table.
            removed: rows of `actions` of the files that go.
            added: files that lie under the table's folder already.
            note: the commit's metadata: SEAL or REPLACE, by which followers of the table skip it.
            same_rows: whether the files hold the same rows, so that no data changes.
            after: what `swaps` returned before the files were read, if no other swap may have come in between.
            lease: the lease that the step holds, if it needs one.

        Raises:
            Conflict: another process has replaced or deleted some of the files that go, has swapped others, or has
                taken the lease over; nothing was replaced.
        """
        from deltalake.transaction import AddAction, RemoveAction

        schema, partitions = TABLES[name]
        moment = time.time_ns() // 1_000_000
        actions: list[AddAction | RemoveAction] = [
            AddAction(file.path, file.size, file.partition, moment, not same_rows, file.statistics) for file in added
        ]
        for gone in removed.to_pylist():
            values: dict[str, str | None] = {key: str(gone[f"partition.{key}"]) for key in partitions}
            actions.append(RemoveAction(gone["path"], not same_rows, moment, gone["size_bytes"], values))
        table = self.table(name)
        changed = Conflict(f"another process has changed {name} in the meantime", hint="Nothing is lost; try again")
        live = pa.table(table.get_add_actions(flatten=True))["path"]
        swaps = table.transaction_version(SWAPS) or 0
        if not pc.all(pc.is_in(removed["path"], live), min_count=0).as_py() or (after is not None and after != swaps):
            raise changed
        properties = CommitProperties(
            custom_metadata=dict(note), app_transactions=[Transaction(SWAPS, swaps + 1), *_fence(table, lease)]
        )
        before = table.version()
        self._sync(name, [file.path for file in added])
        try:
            with self.commit_lock(name):
                table.create_write_transaction(actions, "append", schema, partitions, commit_properties=properties)
        except CommitFailedError as error:
            if "oncurrent" in str(error) or self.version(name) > before:
                raise changed from error
            raise self.unreachable(name, error) from error
        except (OSError, DeltaError) as error:
            # The commit may have succeeded: the steps after it can fail too.
            if not added or added[0].path not in self.live(name):
                raise self.unreachable(name, error) from error
        reached = self.version(name)
        if not self._is_committed(name, before, added):
            raise changed
        self._sync(name, [f"_delta_log/{version:020}.json" for version in range(before + 1, reached + 1)])
        if before // lake_log.EVERY != reached // lake_log.EVERY:
            self._shorten_log(name)
        return reached

    def _is_committed(self, name: str, before: int, files: Sequence[DataFile]) -> bool:
        """Whether a commit of files is part of the table's history, and not of a part of the log that was moved away.

        A process that was paused within the commit may have written it in the place of one that was moved. Then its
        file is deleted. `before` is the version that the commit stands on.
        """
        if self.storage_options or not files or self._holds(name, before):
            return True
        self.reopen(name)
        if files[0].path in self.live(name):
            return True
        for commit in Path(self.uri(name), "_delta_log").glob("*.json"):
            if files[0].path.encode() in commit.read_bytes():
                commit.unlink()
        return False

    def _shorten_log(self, name: str) -> None:
        """Shorten the log of a table in a folder; see `lake_log`."""
        if not self.storage_options:
            try:
                lake_log.shorten(self.filesystem, *self._log_folders(name))
            except OSError as error:  # the commit has succeeded
                logger.warning("the log of the lake's table %s cannot be shortened: %s", name, error)

    def _log_folders(self, name: str) -> tuple[str, str]:
        """The folder of a table's log, and that of its older commits."""
        return f"{self.uri(name)}/_delta_log", f"{self.url}/{lake_commits.OLDER}/{name}/_delta_log"

    def clean_log(self, name: str, until: datetime, followed: Collection[int]) -> int:
        """Shorten a table's log, and delete commits from before a time; return how many files. See `lake_log`.

        Raises:
            MeterhouseError: they cannot be deleted.
        """
        try:
            if not self.storage_options:
                lake_log.shorten(self.filesystem, *self._log_folders(name))
            return lake_log.clean(self.filesystem, *self._log_folders(name), until, followed)
        except OSError as error:
            raise MeterhouseError(
                f"commits of the lake's table {name} cannot be deleted: {error}",
                where=self.url,
                hint="Check the rights of this user",
            ) from error

    def forget_before(self, name: str, version: int) -> int:
        """Delete the commits from before a version, those that were moved aside too; return how many files.

        A checkpoint at the version comes in their place. Nobody may need to follow them any more.

        Raises:
            MeterhouseError: they cannot be deleted.
        """
        try:
            with self.commit_lock(name):
                self._table_at(name, version).create_checkpoint()
            return lake_log.forget(self.filesystem, *self._log_folders(name), version)
        except (OSError, DeltaError) as error:
            raise MeterhouseError(
                f"commits of the lake's table {name} cannot be deleted: {error}",
                where=self.url,
                hint="Check the rights of this user",
            ) from error
        finally:
            self._open.pop(name, None)

    def written_before(self, name: str, moment: datetime) -> set[str]:
        """The paths of a table's data files, live or not, that were last written before a time of the store's clock."""
        marker = f"/tables/{name}/"
        found = {uri[uri.index(marker) + len(marker) :]: at for uri, at in self.listed(f"tables/{name}")}
        return {path for path, at in found.items() if at < moment and not path.startswith(("_", "."))}

    def swaps(self, name: str) -> int:
        """How many swaps the table has seen."""
        return self.transaction(name, SWAPS) or 0

    def fence(self, lease: "Lease", *names: str) -> None:
        """Record a lease in tables, if it was taken from a process that may only be paused.

        From then on, no commit of that process succeeds.
        """
        if lease.taken_over:
            for name in names:
                self.commit(name, [], 0, transactions={}, lease=lease)

    def set_up(self, name: str, hours: int) -> None:
        """Give a table of an earlier release, or of other settings, the properties that bound its log.

        Args:
            name: the table.
            hours: for how long checkpoints in an object store name replaced files, by which a vacuum knows them.
        """
        table = self.table(name)
        kept = f"interval {max(hours, 1)} hours" if self.storage_options else FORGOTTEN
        wanted = {**PROPERTIES, RETENTION: kept}
        if table.metadata().configuration.items() >= wanted.items():
            return
        try:
            with self.commit_lock(name):
                table.alter.set_table_properties(wanted)
        except (OSError, DeltaError) as error:
            raise self.unreachable(name, error) from error

    def vacuum(self, name: str, hours: int) -> int:
        """Delete files that were replaced, or left by a killed process, more than `hours` ago; return how many.

        Raises:
            MeterhouseError: they cannot be deleted.
        """
        if self.storage_options:
            return len(self.table(name).vacuum(hours, dry_run=False, enforce_retention_duration=False, full=True))
        before = time.time() - hours * 3600
        old = lake_vacuum.written_before(self.uri(name), before)  # listed first: what is committed later is newer
        live = {unquote(path) for path in self.live(name)}
        unused = sorted(old - live - self._replaced_since(name, before))
        self.remove([f"{self.uri(name)}/{path}" for path in unused])
        return len(unused)

    def _replaced_since(self, name: str, moment: float) -> set[str]:
        """The files that were replaced since a time. Commits that are no longer in the log are from before it."""
        found: set[str] = set()
        for version in range(self.version(name), -1, -1):
            text = self._commit_text(name, version)
            if text is None:
                break
            actions = lake_commits.parse(text) or []
            removed = [action["remove"] for action in actions if "remove" in action]
            found |= {unquote(each["path"]) for each in removed if each.get("deletionTimestamp", inf) >= moment * 1000}
            made = next((action["commitInfo"].get("timestamp") for action in actions if "commitInfo" in action), None)
            if made is not None and made < (moment - CLOCKS) * 1000:
                break
        return found

    def appended(
        self,
        name: str,
        after: int,
        *,
        until: int | None = None,
        max_rows: int = 2_000_000,
        max_bytes: int = 128 << 20,
    ) -> Appended | None:
        """The rows that were appended after a version (and not after `until`); None if there are none.

        Seals, which change no data, are skipped, and so are replacements, which are only named. At most about
        `max_rows` rows and `max_bytes` (as the commits say of themselves) are returned, and one commit at least, so
        that a backlog is taken in bounded pieces: call again from the returned version.

        Raises:
            Replaced: a commit after the version is no longer in the table's log, or its files were replaced since.
            Damaged: a file cannot be read.
        """
        found = self.appended_files(name, after, until=until, max_rows=max_rows, max_bytes=max_bytes)
        if found is None:
            return None
        schema, _ = TABLES[name]
        pieces = [self.rows_of(name, add["path"], add["partitionValues"]) for add in found.files]
        return Appended(pa.concat_tables([schema.empty_table(), *pieces]), found.version)

    def appended_files(
        self, name: str, after: int, *, until: int | None = None, max_rows: int, max_bytes: int = 1 << 62
    ) -> AppendedFiles | None:
        """The files that were appended after a version; see `appended`.

        Raises:
            Replaced: a commit after the version is no longer in the table's log.
        """
        table = self.table(name)
        newest = table.version() if until is None else min(until, table.version())
        if newest <= after:
            return None
        wanted: list[dict[str, Any]] = []
        replaced: list[lake_commits.Commit] = []
        rows = size = 0
        upto = after
        for commit in self.commits(name, after, newest):
            if is_append(commit):
                more_rows = int(
                    commit.info.get(ROWS) or commit.info.get("operationMetrics", {}).get("num_added_rows", 0)
                )
                more_bytes = int(commit.info.get(BYTES, 0))
                if wanted and (rows + more_rows > max_rows or size + more_bytes > max_bytes):
                    break
                wanted += commit.added
                rows += more_rows
                size += more_bytes
            elif commit.hours is not None:
                replaced.append(commit)
            upto = commit.version
        return AppendedFiles(wanted, rows, upto, tuple(replaced))

    def read_commit(self, name: str, version: int) -> lake_commits.Commit | None:
        """A commit of a table; None if the log does not have it, or no longer.

        Raises:
            Damaged: it is empty or cut.
            MeterhouseError: the lake cannot be reached.
        """
        path = lake_commits.path_of(name, version)
        try:
            text = self._commit_text(name, version)
        except OSError as error:
            raise self.unreachable(name, error) from error
        if text is None:
            return None
        commit = lake_commits.commit_of(text, str(self.table(name).metadata().id), version)
        if commit is None:
            raise Damaged(
                f"commit {version} of the lake's table {name} is empty or cut",
                where=f"{self.url}/{path}",
                hint=MEND,
            )
        return commit

    def _commit_text(self, name: str, version: int) -> bytes | None:
        """A commit from the log or from the older ones; None if neither has it.

        It may be moved from the one to the other between two looks. If the table went back, the older ones may be of
        another history.
        """
        for folder in ("tables", lake_commits.OLDER, "tables"):
            if folder == "tables" or version <= self.version(name):
                with contextlib.suppress(FileNotFoundError):  # it is in the other folder, or nowhere
                    return self.get(lake_commits.path_of(name, version, folder))
        return None

    def commits(self, name: str, after: int, until: int) -> Iterator[lake_commits.Commit]:
        """The commits after a version, up to and including `until`.

        Raises:
            Replaced: a commit is no longer in the log.
            Damaged: a commit is empty or cut.
        """
        for version in range(after + 1, until + 1):
            commit = self.read_commit(name, version)
            if commit is None:
                raise Replaced(
                    f"commit {version} of {name} is no longer in its log, so what it added is unknown",
                    where=self.uri(name),
                    hint="A step has been behind for longer than METERHOUSE_LOG_HOURS",
                )
            yield commit

    def appended_hours(self, name: str, after: int) -> set[str]:
        """The arrival hours of the rows that were appended after a version.

        Raises:
            Replaced: a commit after the version is no longer in the table's log.
        """
        return {
            str(action["partitionValues"]["arrival_hour"])
            for commit in self.commits(name, after, self.version(name))
            if is_append(commit)
            for action in commit.added
        }

    def unchanged_until(self, name: str, version: int) -> int:
        """The newest version that has the same rows as this one: only seals came in between.

        Raises:
            Replaced: a commit after the version is no longer in the table's log.
        """
        same = version
        for commit in self.commits(name, version, self.version(name)):
            if commit.changes_data:
                break
            same = commit.version
        return same

    def known_files(self, name: str, version: int) -> pa.Table | None:
        """The rows of `actions` of a version, or of a later one with the same rows; None if they are no longer known.

        What is live and not among them may hold newer rows. The state at versions that followers have reached is kept
        for longer than the commits after it, see `lake_log`.
        """
        with contextlib.suppress(Replaced):  # the state at the version itself tells as much
            version = self.unchanged_until(name, version)
        try:
            return self.actions(name, version)
        except MeterhouseError:
            return None

    def same_rows(self, name: str, version: int) -> int:
        """A version that has the same rows as this one, and whose files are still there.

        If rows came after it, and files of it were replaced after that, the newest version is returned, which has
        further rows.
        """
        newest = self.version(name)
        try:
            same = self.unchanged_until(name, version)
            replaced = any(commit.removed for commit in self.commits(name, same, newest))
        except Replaced:
            return newest
        return newest if replaced else same

    def reopen(self, name: str) -> None:
        """Forget what is known of a table, because it may have been replaced as a whole, and open it again."""
        self._open.pop(name, None)
        self.table(name)

    def read_file(self, name: str, path: str, columns: list[str]) -> pa.Table:
        """Columns of a data file, none of them the partition's.

        Args:
            name: the table.
            path: the file's, as Delta has it.
            columns: which.

        Raises:
            Replaced: the file is no longer in the table, and was deleted.
            Damaged: the file cannot be read.
        """
        cancelling.check()
        try:
            with self._opened(name, path) as handle:
                return pq.ParquetFile(handle).read(columns)
        except (OSError, pa.ArrowException) as error:
            raise self.file_fault(name, path, error) from error

    def pieces(
        self,
        name: str,
        partitions: Mapping[str, Iterable[Any]],
        max_rows: int,
        without: Collection[str] = (),
    ) -> Iterator[pa.Table]:
        """The rows of some partitions, in tables of at most `max_rows` rows; not those of the files `without`.

        Raises:
            Replaced: a file was replaced and deleted meanwhile.
            Damaged: a file cannot be read.
        """
        for uri in self.files(name, partitions=partitions):
            path = uri.removeprefix(f"{self.uri(name)}/")
            if path not in without:
                yield from self.pieces_of(name, path, max_rows)

    def pieces_of(
        self, name: str, path: str, max_rows: int, columns: Sequence[str] | None = None
    ) -> Iterator[pa.Table]:
        """The rows of a data file, in tables of at most `max_rows` rows; null in columns that are not among `columns`.

        Raises:
            Replaced: the file was replaced and deleted meanwhile.
            Damaged: the file cannot be read.
        """
        partition = dict(part.split("=", 1) for part in unquote(path).split("/")[:-1])
        try:
            with self._opened(name, path) as handle:
                file = pq.ParquetFile(handle)
                there = None if columns is None else [each for each in columns if each in file.schema_arrow.names]
                for batch in file.iter_batches(max_rows, columns=there):
                    yield self._completed(name, pa.table(batch), partition)
        except (OSError, pa.ArrowException) as error:
            raise self.file_fault(name, path, error) from error

    @contextlib.contextmanager
    def parquet(self, name: str, path: str, dictionaries: Sequence[str] = ()) -> Iterator[pq.ParquetFile]:
        """A data file, open for reading. It is not mapped: then the memory of what was read is free at once.

        Args:
            name: the table.
            path: the file's, as Delta has it.
            dictionaries: text columns to read as dictionaries.

        Raises:
            Replaced: the file is no longer in the table, and was deleted.
            Damaged: the file cannot be read.
        """
        cancelling.check()
        try:
            with (
                self._opened(name, path) as source,
                pq.ParquetFile(source, read_dictionary=list(dictionaries), pre_buffer=False) as file,
            ):
                yield file
        except (OSError, pa.ArrowException) as error:
            raise self.file_fault(name, path, error) from error

    def footer(self, name: str, path: str) -> Footer:
        """What the footer of a data file of points says; it is read once.

        Raises:
            Replaced: the file is no longer in the table, and was deleted.
            Damaged: the file cannot be read.
        """

        def read() -> pq.FileMetaData:
            with self.parquet(name, path) as file:
                return file.metadata

        return self._footers.of(f"{name}/{path}", read)

    def _opened(self, name: str, path: str) -> Any:
        place = f"tables/{name}/{unquote(path)}"
        return self._objects.open(place) if self.storage_options else Path(f"{self.url}/{place}").open("rb")

    def know_sizes(self, name: str, sizes: Mapping[str, int]) -> None:
        """Take the sizes of data files that are read next, so that an object store need not be asked for them.

        Args:
            name: the table.
            sizes: bytes by path, as Delta has it.
        """
        if self.storage_options:
            known = {f"tables/{name}/{unquote(path)}": size for path, size in sizes.items()}
            self._objects = ObjectFiles(self.url, self.storage_options, known)

    def file_fault(self, name: str, path: str, error: Exception) -> MeterhouseError:
        """The error for a data file that cannot be read: `Replaced`, or `Damaged` if the table still has it."""
        where = f"{self.uri(name)}/{unquote(path)}"
        if path not in self.live(name):
            return Replaced(
                f"a file of the lake's table {name} was replaced and deleted while it was needed",
                where=where,
                hint="Try again. If it happens often, set METERHOUSE_VACUUM_HOURS to more",
            )
        if not self.filesystem.exists(where):
            return Damaged(f"a data file of the lake's table {name} is missing", where=where, hint=MEND)
        said = lake_faults.first_line(error)
        if isinstance(error, PermissionError):
            hint = "Let this user read the lake"
            return MeterhouseError(f"a data file of the lake's table {name} cannot be read", where=where, hint=hint)
        return Damaged(f"a data file of the lake's table {name} cannot be read: {said}", where=where, hint=MEND)

    def rows_of(
        self, name: str, path: str, partition: Mapping[str, Any], columns: Iterable[str] | None = None
    ) -> pa.Table:
        """All rows of a data file; null in columns that are not among `columns`, which are all by default."""
        schema, partitions = TABLES[name]
        wanted = schema.names if columns is None else columns
        rows = self.read_file(name, path, [column for column in wanted if column not in partitions])
        return self._completed(name, rows, partition)

    def _completed(self, name: str, rows: pa.Table, partition: Mapping[str, Any]) -> pa.Table:
        """A file's rows with the columns of its partition, and null in those that it lacks."""
        schema, _ = TABLES[name]
        for column in schema:
            if column.name in partition:
                value = pa.scalar(partition[column.name]).cast(column.type)
                rows = rows.append_column(column.name, pa.repeat(value, len(rows)))
            elif column.name not in rows.column_names:
                rows = rows.append_column(column.name, pa.nulls(len(rows), column.type))
        return rows.select(schema.names).cast(schema)

    def actions(self, name: str, version: int | None = None) -> pa.Table:
        """The table's live files with sizes, row counts and column statistics, one row a file."""
        table = self.table(name, version)
        if version is not None:
            return pa.table(table.get_add_actions(flatten=True))
        known = self._listed.get(name)
        if known is None or known[0] is not table or known[1] != table.version():
            known = self._listed[name] = (table, table.version(), pa.table(table.get_add_actions(flatten=True)))
        return known[2]

    def files(
        self,
        name: str,
        *,
        version: int | None = None,
        overlapping: tuple[str, Sequence[Span]] | None = None,
        partitions: Mapping[str, Iterable[Any]] | None = None,
        at_least: Mapping[str, Any] | None = None,
    ) -> list[str]:
        """URIs of the live files that may have matching rows; the arguments are those of `matching`."""
        found = self.matching(name, version=version, overlapping=overlapping, partitions=partitions, at_least=at_least)
        base = self.uri(name)
        return [f"{base}/{path}" for path in found["path"].to_pylist()]

    def matching(
        self,
        name: str,
        *,
        version: int | None = None,
        overlapping: tuple[str, Sequence[Span]] | None = None,
        partitions: Mapping[str, Iterable[Any]] | None = None,
        at_least: Mapping[str, Any] | None = None,
        among: pa.Table | None = None,
    ) -> pa.Table:
        """The rows of `actions` of the live files that may have matching rows.

        Args:
            name: the table.
            version: the table's version; default the newest.
            overlapping: (column, spans): only files whose statistics overlap one of the spans, which are in order.
            partitions: partition column → wanted values.
            at_least: partition column → lowest wanted value.
            among: rows of `actions` to choose from, in place of a version, so that several choices are of one.
        """
        actions = self.actions(name, version) if among is None else among
        keep = pa.array([True] * actions.num_rows, pa.bool_())
        for column, values in (partitions or {}).items():
            found = actions[f"partition.{column}"]
            keep = pc.and_(keep, pc.is_in(found, pa.array(list(values), found.type)))
        for column, value in (at_least or {}).items():
            keep = pc.and_(keep, pc.greater_equal(actions[f"partition.{column}"], value))
        if overlapping is not None and f"min.{overlapping[0]}" in actions.column_names:
            column, spans = overlapping
            keep = pc.and_(keep, _overlap(actions[f"min.{column}"], actions[f"max.{column}"], spans))
        return actions.filter(keep)

    # -- DuckDB ---------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def connect(self) -> Iterator[duck.Connection]:
        """A connection to the lake's database: in memory, in UTC, spilling to disk, able to read the lake's files.

        It has nothing but temporary views and tables, see `duck.Database`.

        Raises:
            Replaced: a file that a query needs was replaced and deleted meanwhile; see `lake_faults.retried`.
            Damaged: a file that a query needs cannot be read.
        """
        with self._faults(), self._duck.connect() as connection:
            yield connection

    @contextlib.contextmanager
    def connect_locked(self, views: Callable[[duck.Connection], None]) -> Iterator[duck.Connection]:
        """A connection that can reach nothing but the lake's tables, for statements that others write.

        Args:
            views: creates what the statements may name; it is called before, and may reach everything.

        Raises:
            Replaced, Damaged: as `connect`.
        """
        with self._faults(), self._duck.open() as connection:
            views(connection)
            duck.lock(connection, [f"{self.url}/tables"])
            with duck.interruptible(connection):
                yield connection

    @contextlib.contextmanager
    def _faults(self) -> Iterator[None]:
        """What is wrong with the lake's files and disks, as errors that say so."""
        try:
            yield
        except (duckdb.Error, OSError) as error:
            if (found := lake_faults.file_of(error)) is not None:
                raise self.file_fault(*found, error) from error
            if isinstance(error, duckdb.IOException):
                raise MeterhouseError(
                    f"DuckDB cannot read or write: {lake_faults.first_line(error)}",
                    where=self.url,
                    hint="Check the lake's disk or object store, and the free space of METERHOUSE_HOME",
                ) from error
            raise

    @cached_property
    def _duck(self) -> duck.Database:
        spill = str(self.spill) if self.spill is not None else None
        files = partial(_s3, self.storage_options) if self.storage_options else None
        return duck.Database(self.memory_limit, spill, filesystem=files)

    def view(self, connection: duck.Connection, name: str, files: list[str], view: str | None = None) -> None:
        """Make a DuckDB view of these files of a table, with its partition columns."""
        if costs.bounded():
            costs.expect(self._rows_in(name, files))
        schema, partitions = TABLES[name]
        hive = ", ".join(f"'{column}': {_HIVE_TYPES[column]}" for column in partitions)
        how = f"hive_partitioning = true, hive_types = {{{hive}}}"
        duck.view_files(connection, view or name, schema, self._by_lacking_columns(name, files), how)

    def _rows_in(self, name: str, files: Sequence[str]) -> int:
        """How many rows these files have, as far as the table tells."""
        actions, start = self.actions(name), len(self.uri(name)) + 1
        mine = pc.is_in(actions["path"], pa.array([file[start:] for file in files], pa.string()))
        return int(pc.sum(actions["num_records"].filter(mine)).as_py() or 0)

    def _by_lacking_columns(self, name: str, files: Sequence[str]) -> dict[tuple[str, ...] | None, list[str]]:
        """The files by the columns that their statistics give no value for; None for files that are replaced."""
        found: dict[tuple[str, ...] | None, list[str]] = {(): []}
        if name not in GROWN:
            return {(): list(files)}
        actions, empty = self.actions(name), list[list[bool]]()
        flat = [column for column in GROWN[name] if has_bounds(TABLES[name][0].field(column).type)]
        for column in GROWN[name]:
            counted = f"null_count.{column if column in flat else flat[0]}"
            nulls = actions[counted] if counted in actions.column_names else pa.nulls(len(actions), pa.int64())
            without = pc.equal(nulls, actions["num_records"]) if column in flat else pc.is_null(nulls)
            empty.append(pc.fill_null(without, True).to_pylist())
        lacking = {
            path: tuple(column for column, without in zip(GROWN[name], each, strict=True) if without)
            for path, *each in zip(actions["path"].to_pylist(), *empty, strict=True)
        }
        start = len(self.uri(name)) + 1
        for file in files:
            found.setdefault(lacking.get(file[start:]), []).append(file)
        return found

    # -- files ----------------------------------------------------------------------------------------------

    @cached_property
    def filesystem(self) -> "AbstractFileSystem":
        """fsspec's file system for exports and manifests: s3fs or the local one."""
        if self.storage_options:
            return _s3(self.storage_options)
        from fsspec.implementations.local import LocalFileSystem

        return LocalFileSystem()

    @cached_property
    def _objects(self) -> ObjectFiles:
        """The object store, to read files."""
        return ObjectFiles(self.url, self.storage_options)

    @property
    def object_store(self) -> "AbstractFileSystem | None":
        """The object store's file system; None if the lake is a folder."""
        return self.filesystem if self.storage_options else None

    def put(self, path: str, content: bytes) -> str:
        """Write a file under the lake's URL, whole or not at all; return its URI."""
        uri = f"{self.url}/{path}"
        try:
            if self.storage_options:
                self.filesystem.pipe_file(uri, content)
            else:
                target = Path(uri)
                make_folder(Path(self.url))
                target.parent.mkdir(parents=True, exist_ok=True)
                part = target.with_name(f".{target.name}.{time.time_ns()}")
                part.write_bytes(content)
                part.replace(target)
        except OSError as error:
            missing = self.storage_options and isinstance(error, FileNotFoundError)
            said = self._no_bucket() if missing else str(error)
            raise MeterhouseError(
                f"cannot write: {said}", where=uri, hint="Check METERHOUSE_LAKE_URL and the free space"
            ) from error
        return uri

    def listed(self, folder: str) -> list[tuple[str, datetime]]:
        """The URIs of all files below a folder under the lake's URL, and when each was written."""
        found = self.filesystem.find(f"{self.url}/{folder}", detail=True)
        return [(uri, _written(entry)) for uri, entry in found.items()]

    def remove(self, uris: list[str]) -> None:
        """Delete files, in this order. Those that are gone already do not matter.

        Raises:
            MeterhouseError: they cannot be deleted.
        """
        try:
            if self.storage_options:
                for start in range(0, len(uris), 1000):  # as many as a request of S3 takes
                    self.filesystem.rm(uris[start : start + 1000])
            else:
                for uri in uris:
                    Path(uri).unlink(missing_ok=True)
        except OSError as error:
            raise MeterhouseError(
                f"files of the lake cannot be deleted: {error}", where=self.url, hint="Check the rights of this user"
            ) from error

    def get(self, path: str) -> bytes:
        """Read a file under the lake's URL."""
        return self._objects.read(path) if self.storage_options else Path(f"{self.url}/{path}").read_bytes()


def _s3(options: Mapping[str, str]) -> "AbstractFileSystem":
    """s3fs's file system, by delta-rs's options."""
    import s3fs

    return s3fs.S3FileSystem(
        key=options.get("AWS_ACCESS_KEY_ID"),
        secret=options.get("AWS_SECRET_ACCESS_KEY"),
        endpoint_url=options.get("AWS_ENDPOINT_URL"),
        client_kwargs={"region_name": options["AWS_REGION"]},
        config_kwargs={"s3": {"addressing_style": "path"}},
        use_listings_cache=False,
    )


def _fence(table: DeltaTable, lease: "Lease | None") -> list[Transaction]:
    """The application transaction by which a commit records its lease's generation.

    Raises:
        Conflict: another process has taken the lease over.
    """
    if lease is None:
        return []
    app = f"lease:{lease.name}"
    recorded = table.transaction_version(app)
    if recorded is not None and recorded > lease.generation:
        # If the lease is still held, the warehouse is new, or older than the lake.
        lease.raise_above(recorded)
    return [Transaction(app, lease.generation)]


def _written(entry: Mapping[str, Any]) -> datetime:
    """When a file of fsspec's listing was written. Its key is that of the file system."""
    moment = entry.get("LastModified", entry.get("mtime"))
    return moment if isinstance(moment, datetime) else datetime.fromtimestamp(float(moment or 0), UTC)


def _missing_columns(name: str, table: DeltaTable) -> list[Field]:
    schema, _ = TABLES[name]
    there = {field.name for field in table.schema().fields}
    return [field for field in Schema.from_arrow(schema).fields if field.name not in there]


def _overlap(low: pa.ChunkedArray, high: pa.ChunkedArray, spans: Sequence[Span]) -> pa.Array:
    """Whether each file, by the bounds of a time in it, overlaps one of the spans; true for a file without bounds."""
    starts, ends = (np.array([times.micros(span[n]) for span in spans], np.int64) for n in (0, 1))
    micros = pa.timestamp("us", tz="UTC")
    first, last = (pc.fill_null(each.cast(micros).cast(pa.int64()), 0).to_numpy() for each in (low, high))
    place = np.searchsorted(ends, first, side="right")  # the first span that ends after the file's first row
    # Delta truncates bounds of times to milliseconds, the upper bound too.
    found = (place < len(ends)) & (starts[np.minimum(place, len(ends) - 1)] - 1_000 <= last)
    return pc.or_(pa.array(found), pc.or_(pc.is_null(low), pc.is_null(high)).combine_chunks())


def is_append(commit: lake_commits.Commit) -> bool:
    """Whether the commit added rows, as a landing, a conversion or a load does."""
    mode = str(commit.info.get("operationParameters", {}).get("mode", "")).lower()
    return commit.info.get("operation") == "WRITE" and mode == "append" and not {SEAL, REPLACE} & set(commit.info)
