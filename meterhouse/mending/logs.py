"""Fixes the logs of the lake's tables: commits that are empty, cut or missing, and checkpoints that cannot be read."""

import re
import time

import orjson

from meterhouse.errors import MeterhouseError
from meterhouse.mending.findings import Findings
from meterhouse.site import Site
from meterhouse.stores.lake import Lake
from meterhouse.stores.lake_commits import parse, path_of
from meterhouse.stores.lake_repair import log_files, move_aside
from meterhouse.stores.lake_tables import TABLES

COMPUTED = frozenset({"rollups", "quarantine", "derived", "evidence", "resource_states"})


def mend_logs(site: Site, findings: Findings) -> set[str]:
    """Make every table readable; return those of which commits are lost.

    A cut end is taken out whenever a table is opened. In the middle of a log, an empty commit takes the place of one
    that is lost. A table that cannot be opened even so, and a computed table that lacks a commit, begin anew.
    """
    found = {name for name in TABLES if _mend_log(site.lake, name, findings)}
    if not found:
        findings.ok("lake logs", "every commit can be read")
    return found


def _mend_log(lake: Lake, name: str, findings: Findings) -> bool:
    aside_before = _set_aside(lake, name)
    lost = _lost_commits(lake, name)
    for version in lost:
        where = f"{lake.url}/{path_of(name, version)}"
        if lake.filesystem.exists(where):
            move_aside(lake.filesystem, where, lake.aside(name))
        info = {"timestamp": time.time_ns() // 1_000_000, "operation": "MEND", "operationParameters": {}}
        lake.put(path_of(name, version), orjson.dumps({"commitInfo": info}) + b"\n")
    try:
        lake.reopen(name)
        opened = True
    except MeterhouseError:
        opened = False
    if not opened or (lost and name in COMPUTED):
        _begin_anew(lake, name)
        findings.fixed("lake logs", f"{name}: its log was damaged; the table begins anew, its files are looked through")
        return True
    if lost:
        findings.fixed("lake logs", f"{name}: commits {', '.join(map(str, lost))} were empty, cut or missing")
    if moved := _set_aside(lake, name) - aside_before:
        findings.fixed("lake logs", f"{name}: {len(moved)} damaged files of its log are now in {lake.aside(name)}")
    return bool(lost) or bool(_set_aside(lake, name) - _known(lake, name))


def _known(lake: Lake, name: str) -> set[str]:
    """What an earlier run has set aside and dealt with."""
    path = f"{lake.aside(name)}/mended"
    return set(lake.filesystem.cat_file(path).decode().splitlines()) if lake.filesystem.exists(path) else set()


def dealt_with(lake: Lake, name: str) -> None:
    """Record that all files that are set aside are dealt with: what was in them is in the table, or is lost."""
    if found := _set_aside(lake, name):
        lake.filesystem.pipe_file(f"{lake.aside(name)}/mended", "\n".join(sorted(found)).encode())


def _set_aside(lake: Lake, name: str) -> set[str]:
    """The names of a log's files that were set aside, by this run or when the table was opened."""
    return {
        path.rpartition("/")[2]
        for path in log_files(lake.filesystem, lake.aside(name), "")
        if re.search(r"\.json\.\d+$", path)
    }


def _lost_commits(lake: Lake, name: str) -> list[int]:
    """The versions before the newest intact commit that are empty, cut or missing."""
    log = f"{lake.uri(name)}/_delta_log"
    files = lake.filesystem
    versions = {int(found[1]): path for path in log_files(files, log, ".json") if (found := _version(path))}
    intact = [version for version, path in versions.items() if parse(files.cat_file(path)) is not None]
    if not intact:
        return []
    checkpoints = [int(found[1]) for path in log_files(files, log, ".checkpoint.parquet") if (found := _version(path))]
    # Upkeep deletes commits from before a checkpoint.
    first = min([min(versions), *checkpoints]) if checkpoints else 0
    return sorted(set(range(first, max(intact))) - set(intact) - set(checkpoints))


def _version(path: str) -> re.Match[str] | None:
    return re.search(r"/(\d{20})\.", path)


def _begin_anew(lake: Lake, name: str) -> None:
    log = f"{lake.uri(name)}/_delta_log"
    move_aside(lake.filesystem, log, lake.aside(name))
    lake.reopen(name)
