"""Compaction: within minutes of its end, an arrival hour's many files become one.

The running hour is tidied: what is older than a quarter of an hour is merged, as soon as it is in many files. Alarms
read the rest, minute by minute. Each commit replaces whole files by the same rows, and followers skip it. If the
process dies, the files stay as they were, and the next run does the work.
"""

import logging
import re
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta

import pyarrow as pa
import pyarrow.compute as pc

from meterhouse import times
from meterhouse.archive import sample_files, sample_reading
from meterhouse.archive.hours import RECIPES, files_by_hour, is_final, unconverted, write_hour
from meterhouse.archive.seal import listed_files
from meterhouse.errors import Conflict, MeterhouseError
from meterhouse.progress import Progress, no_progress
from meterhouse.site import Site
from meterhouse.stores import lake_cuts
from meterhouse.stores.lake import SEAL
from meterhouse.stores.leases import Lease

log = logging.getLogger(__name__)

GRACE = timedelta(minutes=2)
"""How long after its end an hour is compacted: a landing that began in it may still be running."""

RECENT = timedelta(minutes=15)
"""Files of the running hour that are younger stay as they are."""

MANY = 16
"""The running hour is tidied when it has this many older files that were not tidied yet."""

THREADS = 2

ROWS_AT_ONCE = 4_000_000
"""Maximum number of samples that all threads together hold in memory, if each of their hours has fewer."""

_TIDIED = re.compile(r"arrival_hour=[^/]*/tidied-")


@dataclass
class Compacted:
    """What a compaction run did.

    Attributes:
        hours: how many hours of tables were compacted.
        tidied: how many running hours were tidied.
        files_before: how many files were replaced.
        files: by how many.
        rows: how many rows these have.
        duplicates: how many rows were copies of others.
        bytes_before: size of the replaced files.
        bytes: size of the new ones.
        left: hours that another process has changed meanwhile, or whose rows wait for a step. The next run takes them.
    """

    hours: int = 0
    tidied: int = 0
    files_before: int = 0
    files: int = 0
    rows: int = 0
    duplicates: int = 0
    bytes_before: int = 0
    bytes: int = 0
    left: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Task:
    """Files of an arrival hour of a table that are to be replaced.

    Attributes:
        table: the table.
        hour: the arrival hour.
        files: rows of `Lake.actions`.
        tidies: whether the hour is still running.
    """

    table: str
    hour: str
    files: pa.Table
    tidies: bool

    @property
    def rows(self) -> int:
        """How many rows the files have."""
        return int(pc.sum(self.files["num_records"]).as_py() or 0)


@dataclass(frozen=True)
class Due:
    """What there is to do, the newest hours first, and how many hours have to wait for a step."""

    tasks: list[Task]
    waiting: int


def compact(site: Site, *, progress: Progress = no_progress) -> Compacted:
    """Compact the hours that are over, and tidy the running one.

    Raises:
        AlreadyRunning: another process is compacting or sealing.
        WentBack: the lake's samples are older than what was followed, or others; nothing was done.
        MeterhouseError: hours could not be compacted, and stayed as they were; the others were.
    """
    done = Compacted()
    started, clock = times.now(), time.monotonic()
    failed: list[MeterhouseError] = []
    with site.warehouse.lease("compact") as lease:
        site.lake.fence(lease, *RECIPES)
        found = due(site)
        done.left = found.waiting
        for number, (task, future) in enumerate(_written(site, found.tasks)):
            progress(number, len(found.tasks))
            try:
                _replace(site, task, future.result(), lease, done)
            except Conflict as error:
                log.info("%s of %s stays as it is: %s", task.hour, task.table, error)
                done.left += 1
            except MeterhouseError as error:
                failed.append(error)
        done.seconds = time.monotonic() - clock
        if done.files_before:
            site.warehouse.record_run("compact", started, vars(done))
    if failed:
        raise MeterhouseError(
            f"{len(failed)} arrival hours were not compacted, the first because {failed[0].what}",
            where=failed[0].where,
            hint=failed[0].hint,
        )
    return done


def due(site: Site) -> Due:
    """The hours to compact or to tidy now."""
    present = times.now()
    waiting = unconverted(site)
    held = {
        "notifications": waiting.conversion,
        "samples": waiting.conversion | waiting.catalog,
        "events": waiting.conversion,
    }
    tasks, over, left = [], [], set[str]()
    for table in RECIPES:
        for hour, files in files_by_hour(site.lake.actions(table)).items():
            if times.parse(f"{hour}:00") + times.HOUR + GRACE <= present:
                if not is_final(table, files["path"].to_pylist()) or lake_cuts.stretched(table, files):
                    over.append(Task(table, hour, files, tidies=False))
            elif table == sample_reading.TABLE and (older := _untidy(files, present)) is not None:
                tasks.append(Task(table, hour, older, tidies=True))
    listed = listed_files(site, {times.parse_day(task.hour[:10]) for task in over})
    for task in over:
        if listed.get(task.table, set()).issuperset(task.files["path"].to_pylist()):
            continue  # a day that an earlier release has sealed: if it is sealed again, it gets the new form
        if task.hour in held.get(task.table, ()):
            left.add(task.hour)
        else:
            tasks.append(task)
    return Due(sorted(tasks, key=lambda task: (task.tidies, task.hour), reverse=True), len(left))


def _untidy(files: pa.Table, present: datetime) -> pa.Table | None:
    """The files of a running hour to merge; None if they are too few.

    Files that were tidied before are merged again when as many rows have come since. So each row is written a few
    times only, however many files there are.
    """
    before = times.micros(present - RECENT) // 1000
    older = files.filter(pc.less(files["modification_time"].cast(pa.int64()), before))
    tidied = pc.match_substring_regex(older["path"], _TIDIED.pattern)
    chosen = older.filter(pc.invert(tidied))
    if len(chosen) < MANY:
        return None
    rows = pc.sum(chosen["num_records"]).as_py()
    again = older.filter(tidied).sort_by("num_records")
    taken = 0
    for count in again["num_records"].to_pylist():
        if count > 2 * rows:
            break
        rows += count
        taken += 1
    return pa.concat_tables([chosen, again.slice(0, taken)])


def _written(site: Site, tasks: list[Task]) -> Iterator[tuple[Task, "Future[sample_files.Written]"]]:
    """The tasks with what was written for them, in order; as many at once as memory allows."""
    with ThreadPoolExecutor(THREADS) as pool:
        running: list[tuple[Task, Future[sample_files.Written]]] = []
        for task in tasks:
            while running and (
                len(running) >= THREADS or task.rows + sum(other.rows for other, _ in running) > ROWS_AT_ONCE
            ):
                yield running.pop(0)
            running.append((task, pool.submit(_write, site, task)))
            if task.table != sample_reading.TABLE:  # DuckDB has threads of its own, and its memory limit
                yield from running
                running = []
        yield from running


def _write(site: Site, task: Task) -> sample_files.Written:
    paths = task.files["path"].to_pylist()
    if not task.tidies:
        return write_hour(site.lake, task.table, task.hour, paths)
    return sample_files.rewrite(site.lake, task.hour, paths, f"tidied-{uuid.uuid4().hex}")


def _replace(site: Site, task: Task, written: sample_files.Written, lease: Lease, done: Compacted) -> None:
    note = {SEAL: f"{'tidied' if task.tidies else 'compacted'} {task.hour}"}
    try:
        site.lake.swap(task.table, task.files, written.files, note, same_rows=True, lease=lease)
    except Conflict:
        site.lake.discard(task.table, written.files)
        raise
    done.hours += not task.tidies
    done.tidied += task.tidies
    done.files_before += len(task.files)
    done.files += len(written.files)
    done.rows += written.rows
    done.duplicates += written.duplicates
    done.bytes_before += pc.sum(task.files["size_bytes"]).as_py()
    done.bytes += sum(file.size for file in written.files)
