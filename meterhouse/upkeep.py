"""Upkeep: deletes what is older than it is kept for, so that a site stays as large and as fast as its data needs.

docs/operator-guide.md, "What is kept, and for how long", lists everything that has an end here, and what has one
elsewhere. Raw data, roll-ups and what describes them (series, resources, event hours) are not deleted by age.
"""

import logging
import re
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from sqlalchemy import ColumnElement, Table, delete, exists, select, tuple_

from meterhouse import history, times
from meterhouse.archive.restate import restate
from meterhouse.conversion import step as conversion
from meterhouse.dead_letters import Selection, purge
from meterhouse.errors import MeterhouseError
from meterhouse.polling.record.expiry import expire
from meterhouse.progress import Progress, no_progress
from meterhouse.site import Site
from meterhouse.stores import heartbeats, successions
from meterhouse.stores.lake_tables import TABLES
from meterhouse.stores.warehouse_tables import (
    alarm_history,
    definition_paths,
    deliveries,
    delivery_attempts,
    idempotency_keys,
    lateness,
    leases,
    report_exports,
    runs,
    stream_queues,
    webhook_credentials,
)
from meterhouse.stream.spool_publishing import PREFIX
from meterhouse.usage import evidence

log = logging.getLogger(__name__)

UNSEEN = timedelta(days=366)
"""How long the warehouse remembers a queue, a path of a definition, or a lost run, that is no longer seen."""

ROWS_AT_ONCE = 20_000
"""Maximum number of rows that one transaction deletes, so that other steps do not wait long for the warehouse."""

STATISTICS_SECONDS = 300.0
"""How long a run may take to write statistics of files of earlier releases. The next run continues."""


@dataclass
class Kept:
    """What an upkeep run did.

    Attributes:
        deleted: by part, how many rows, letters or files it deleted; of `statistics`, how many files it described.
        left: how many files still lack statistics.
        failed: by part, why it could not do its work. The other parts did theirs.
    """

    deleted: dict[str, int] = field(default_factory=dict)
    left: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    def finding(self, part: str) -> str:
        """One line about a part."""
        if part in self.failed:
            return f"failed: {self.failed[part]}"
        if part == "statistics" and self.left:
            return f"{self.left} files still lack statistics; the next run continues"
        return "ok"

    def check(self) -> None:
        """Raise a MeterhouseError if a part has failed."""
        if self.failed:
            raise MeterhouseError("; ".join(f"upkeep of {part} failed: {why}" for part, why in self.failed.items()))


def upkeep(site: Site, *, progress: Progress = no_progress) -> Kept:
    """Delete what is older than it is kept for. A part that fails does not stop the others.

    Raises:
        AlreadyRunning: another process is running this step.
    """
    done = Kept()
    started, clock = times.now(), time.monotonic()
    with site.warehouse.lease("upkeep"):
        for place, (name, part) in enumerate(PARTS.items()):
            progress(place, len(PARTS))
            try:
                done.deleted[name] = part(site, done)
            except MeterhouseError as error:
                done.failed[name] = str(error)
            except Exception as error:
                log.exception("upkeep of %s failed", name)
                done.failed[name] = f"{type(error).__name__}: {error}"
        done.seconds = time.monotonic() - clock
        site.warehouse.record_run("upkeep", started, {"failed": sorted(done.failed), "left": done.left, **done.deleted})
    return done


# -- the warehouse --------------------------------------------------------------------------------------------


def _runs(site: Site, done: Kept) -> int:
    before = _days_ago(site.settings.keep_runs_days)
    with site.warehouse.read() as connection:
        steps = connection.execute(select(runs.c.step).distinct()).scalars().all()
    return sum(_delete(site, runs, runs.c.step == step, runs.c.started_at < before) for step in steps)


def _lateness(site: Site, done: Kept) -> int:
    return _delete(site, lateness, lateness.c.counted_at < _days_ago(site.settings.keep_runs_days))


def _alarm_history(site: Site, done: Kept) -> int:
    return _delete(site, alarm_history, alarm_history.c.timestamp < _days_ago(site.settings.keep_alarm_history_days))


def _deliveries(site: Site, done: Kept) -> int:
    before = _days_ago(site.settings.keep_alarm_history_days)
    deleted = _delete(site, deliveries, deliveries.c.state.in_(["delivered", "dead"]), deliveries.c.created_at < before)
    attempts, secrets = delivery_attempts, webhook_credentials
    of_attempts = exists().where(deliveries.c.delivery_id == attempts.c.delivery_id)
    same = (deliveries.c.alarm_id == secrets.c.alarm_id, deliveries.c.url == secrets.c.url)
    return (
        deleted
        + _delete(site, attempts, attempts.c.started_at < before, ~of_attempts)
        + _delete(site, secrets, ~exists().where(*same))
    )


def _idempotency_keys(site: Site, done: Kept) -> int:
    """Delete the keys whose repeats would be landed again."""
    before = times.now() - timedelta(hours=site.settings.redelivery_hours)
    return _delete(site, idempotency_keys, idempotency_keys.c.first_at < before)


def _polling(site: Site, done: Kept) -> int:
    return expire(site.warehouse, site.settings.poll_record_days)


def _unseen(site: Site, done: Kept) -> int:
    before = times.now() - UNSEEN
    return (
        _delete(site, definition_paths, definition_paths.c.last_seen_at < before)
        + _delete(site, stream_queues, stream_queues.c.looked_at < before)
        + _delete(site, leases, leases.c.name.startswith(heartbeats.PREFIX), leases.c.expires_at < before)
        + _delete(site, leases, leases.c.name.startswith(successions.PREFIX), leases.c.expires_at < before)
    )


def _delete(site: Site, table: Table, *conditions: ColumnElement[bool]) -> int:
    """Delete the rows that fulfil all conditions, in short transactions."""
    deleted = 0
    key = tuple_(*table.primary_key.columns)
    chosen = select(*table.primary_key.columns).where(*conditions).limit(ROWS_AT_ONCE)
    while True:
        with site.warehouse.begin() as connection:
            count = connection.execute(delete(table).where(key.in_(chosen))).rowcount
        deleted += count
        if count < ROWS_AT_ONCE:
            return deleted


# -- the lake -------------------------------------------------------------------------------------------------


def _dead_letters(site: Site, done: Kept) -> int:
    return purge(site, Selection(end=_days_ago(site.settings.keep_dead_letters_days))).letters


def _statistics(site: Site, done: Kept) -> int:
    restated = restate(site, STATISTICS_SECONDS)
    done.left = restated.left
    if restated.unreadable:
        count, first = len(restated.unreadable), restated.unreadable[0]
        raise MeterhouseError(
            f"{count} data files cannot be read, the first: {first}", hint="Restore them from a backup of the lake"
        )
    return restated.files


def _replaced_files(site: Site, done: Kept) -> int:
    return sum(site.lake.vacuum(table, site.settings.vacuum_hours) for table in TABLES)


def _commits(site: Site, done: Kept) -> int:
    lake = site.lake
    # A vacuum looks into the commits for what was replaced lately.
    until = times.now() - timedelta(hours=max(site.settings.log_hours, site.settings.vacuum_hours))
    readers = (*conversion.TABLES, evidence.TABLE)
    converted = {lake.transaction(table, conversion.APP) or 0 for table in readers}
    reached = history.followed_positions(site)
    deleted = 0
    for table in TABLES:
        lake.set_up(table, site.settings.vacuum_hours)
        deleted += lake.clean_log(table, until, converted if table == "notifications" else reached)
    return deleted


def _exports(site: Site, done: Kept) -> int:
    before = _days_ago(site.settings.keep_exports_days).date()
    old = [uri for uri, _ in site.lake.listed("exports") if (day := _last_day(uri)) is not None and day < before]
    site.lake.remove(old)
    with site.warehouse.begin() as connection:  # so that they are not exported again
        connection.execute(delete(report_exports).where(report_exports.c.end_at <= times.day_start(before)))
    return len(old)


def _last_day(uri: str) -> date | None:
    """The last day of the day or month that a report's export is of. Bills are kept."""
    if (day := _day(uri)) is not None or "/exports/bills/" in uri:
        return day
    found = re.search(r"/(\d{4}-\d\d)\.\w+\Z", uri)
    if found is None:
        return None
    following = times.parse_day(f"{found[1]}-01") + timedelta(days=31)
    return following.replace(day=1) - times.DAY


def _day(uri: str) -> date | None:
    found = re.search(r"/(\d{4}-\d\d-\d\d)\.\w+\Z", uri)
    return times.parse_day(found[1]) if found else None


# -- folders --------------------------------------------------------------------------------------------------


def _left_behind(site: Site, done: Kept) -> int:
    """Delete what killed processes left: files of DuckDB, half-written files, tables of the doctor."""
    before = times.now() - timedelta(hours=max(site.settings.vacuum_hours, 1))
    lake = site.lake
    old = [
        uri
        for place in ("exports", "archive", "probe")
        for uri, written in lake.listed(place)
        if written < before and (place == "probe" or uri.rpartition("/")[2].startswith("."))
    ]
    lake.remove(old)
    begun = [path for path in _files(site.settings.spool) if path.name.startswith(f".{PREFIX}")]
    if lake.object_store is None:
        for folder in sorted(Path(lake.url, "probe").glob("**/"), reverse=True):
            with suppress(OSError):  # not empty: the doctor is running
                folder.rmdir()
    spilled = [*_files(site.settings.home_path / "spill"), *begun]
    left = [path for path in spilled if path.exists() and _written(path) < before]
    for path in left:
        path.unlink(missing_ok=True)
    return len(old) + len(left)


def _corrupt_files(site: Site, done: Kept) -> int:
    before = _days_ago(site.settings.keep_dead_letters_days)
    old = [path for path in _files(site.settings.spool) if path.suffix == ".corrupt" and _written(path) < before]
    for path in old:
        path.unlink(missing_ok=True)
    return len(old)


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_file()] if folder.is_dir() else []


def _written(path: Path) -> datetime:
    return datetime.fromtimestamp(path.lstat().st_mtime, UTC)


def _days_ago(days: int) -> datetime:
    return times.now() - timedelta(days=days)


PARTS: dict[str, Callable[[Site, Kept], int]] = {
    "runs": _runs,
    "lateness": _lateness,
    "alarm_history": _alarm_history,
    "deliveries": _deliveries,
    "idempotency_keys": _idempotency_keys,
    "polling": _polling,
    "unseen": _unseen,
    "dead_letters": _dead_letters,
    "corrupt_files": _corrupt_files,
    "exports": _exports,
    "statistics": _statistics,
    "replaced_files": _replaced_files,
    "commits": _commits,
    "left_behind": _left_behind,
}
"""The parts of the step, in order: what is deleted in a part gives later ones work."""
