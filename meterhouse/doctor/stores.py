"""Checks of the stores: the warehouse and its clock, the lake and its commits, and their disks."""

import shutil
import threading
import time
import uuid
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
from deltalake import DeltaTable, write_deltalake
from sqlalchemy import func, select, text

from meterhouse import catalog, times
from meterhouse import history as followed
from meterhouse.conversion import step as conversion
from meterhouse.doctor.findings import Finding, age
from meterhouse.private_files import make_folder
from meterhouse.site import Site
from meterhouse.stores.lake_tables import TABLES
from meterhouse.stores.warehouse_tables import runs
from meterhouse.usage import evidence, periods

CLOCK_TOLERANCE_SECONDS = 2.0
RACERS, COMMITS = 3, 5
LITTLE = 0.1
"""A disk with a smaller free share is nearly full."""
FULL = 100_000_000
"""With fewer free bytes than this, nothing works reliably."""
SOON = timedelta(days=14)
"""A disk that is full sooner than this needs attention."""
WEEK = timedelta(days=7)


def warehouse(site: Site) -> Iterator[Finding]:
    """Whether the warehouse answers, and has this version's schema."""
    site.warehouse.check_schema()
    kind = "SQLite" if site.warehouse.is_sqlite else "PostgreSQL"
    yield Finding("warehouse", "ok", f"{kind}, schema revision {site.warehouse.revision()}")


def clocks(site: Site) -> Iterator[Finding]:
    """Whether the clocks of the warehouse and this machine agree, and nothing recorded is from the future."""
    with site.warehouse.read() as connection:
        if not site.warehouse.is_sqlite:
            theirs = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
            apart = abs((times.now() - theirs).total_seconds())
            said = f"{apart:.2f} s between this machine and the warehouse"
        else:
            apart, said = 0.0, "one machine"
        latest = connection.execute(select(func.max(runs.c.started_at))).scalar()
    if apart > CLOCK_TOLERANCE_SECONDS:
        found = f"the clocks of the warehouse and this machine differ by {apart:.1f} s"
        yield Finding("clocks", "warning", found, "set both by NTP")
    elif latest is not None and (ahead := (latest - times.now()).total_seconds()) > CLOCK_TOLERANCE_SECONDS:
        found = f"the newest run was recorded {age(ahead)} in the future: a clock was set back, or is wrong"
        yield Finding("clocks", "warning", found, "set all clocks by NTP")
    else:
        yield Finding("clocks", "ok", said)


def lake(site: Site) -> Iterator[Finding]:
    """Whether a file can be written to the lake and read back."""
    path = f"probe/{uuid.uuid4().hex}"
    site.lake.put(path, b"probe")
    if site.lake.get(path) != b"probe":
        yield Finding("lake", "failed", f"{site.lake.url} returned other content than was written")
        return
    site.lake.filesystem.rm_file(f"{site.lake.url}/{path}")
    yield Finding("lake", "ok", f"{site.lake.url}, samples at version {site.lake.version('samples')}")


def history(site: Site) -> Iterator[Finding]:
    """Whether the lake's tables are still those that the other steps have read, and not older ones."""
    followed.check(site, catalog.FOLLOWER, catalog.TABLE, catalog.READER)
    conversion.check_history(site)
    evidence.check_history(site)
    for follower, table in ((periods.OF_EVIDENCE, evidence.TABLE), (periods.OF_ROLLUPS, "rollups")):
        followed.check(site, follower, table, periods.READER)
    yield Finding("history", "ok", "lake and warehouse are of one time")


def lake_commits(site: Site) -> Iterator[Finding]:
    """Race commits on a table made for this check: a store that accepts two racing commits loses data."""
    uri = f"{site.lake.url}/probe/race-{uuid.uuid4().hex}"
    rows = pa.table({"n": pa.array([1], pa.int64())})
    if not site.lake.storage_options:
        make_folder(Path(site.lake.url))
        Path(uri).mkdir(parents=True)
    write_deltalake(uri, rows.slice(0, 0), storage_options=site.lake.storage_options)

    def race() -> None:
        for _ in range(COMMITS):
            with site.lake.commit_lock("probe"):
                write_deltalake(uri, rows, mode="append", storage_options=site.lake.storage_options)

    clock = time.monotonic()
    racers = [threading.Thread(target=race) for _ in range(RACERS)]
    for racer in racers:
        racer.start()
    for racer in racers:
        racer.join()
    kept = int(DeltaTable(uri, storage_options=site.lake.storage_options).count())
    site.lake.filesystem.rm(uri, recursive=True)
    wanted = RACERS * COMMITS
    if kept != wanted:
        lost = f"of {wanted} racing commits {wanted - kept} were lost"
        yield Finding("lake commits", "failed", lost, "use another object store")
        return
    each = (time.monotonic() - clock) / wanted * 1000
    yield Finding("lake commits", "ok", f"{wanted} racing commits kept, {each:.0f} ms each")


def disks(site: Site) -> Iterator[Finding]:
    """How much room the disks of the home folder, the lake and the spool have, and when the lake will have filled its
    disk if it grows as in the last week."""
    given = site.settings
    folders = {"home": given.home_path, "spill": given.home_path / "spill"}
    if not site.lake.storage_options:
        folders["lake"] = Path(site.lake.url)
    if given.is_spool:
        folders["spool"] = given.spool
    disks: dict[int, list[str]] = {}
    paths: dict[int, Path] = {}
    for name, folder in folders.items():
        there = next(path for path in (folder, *folder.parents) if path.exists())
        device = there.stat().st_dev
        disks.setdefault(device, []).append(name)
        paths.setdefault(device, there)
    for device, names in disks.items():
        usage = shutil.disk_usage(paths[device])
        free = f"{' and '.join(names)}: {_bytes(usage.free)} of {_bytes(usage.total)} free"
        growth = _growth(site) if "lake" in names else 0.0
        left = usage.free / growth if growth > 0 else None  # days
        if left is not None and left < 3650:
            free += f"; the lake grows by {_bytes(growth)} a day, and fills the disk in {age(left * 86400)}"
        if usage.free < LITTLE * usage.total or (left is not None and left < SOON.days):
            to_do = f"make room on the disk of {paths[device]}"
            yield Finding("disk space", "failed" if usage.free < FULL else "warning", free, to_do)
        else:
            yield Finding("disk space", "ok", free)


def _growth(site: Site) -> float:
    """Bytes by which the lake grew a day, in the last week or since it was made, by the ages and sizes of its files."""
    present = times.now().timestamp() * 1000
    added, oldest = 0, 0.0
    for name in TABLES:
        actions = site.lake.actions(name)
        if not actions.num_rows:
            continue
        ages = pc.subtract(present, pc.cast(actions["modification_time"], pa.float64()))
        oldest = max(oldest, pc.max(ages).as_py())
        recent = pc.filter(actions["size_bytes"], pc.less_equal(ages, WEEK.total_seconds() * 1000))
        added += pc.sum(recent).as_py() or 0
    days = min(WEEK, max(timedelta(milliseconds=oldest), times.DAY)) / times.DAY
    return added / days


def _bytes(count: float) -> str:
    for unit in ("bytes", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}"
        count /= 1000
    return f"{count:,.1f} TB"
