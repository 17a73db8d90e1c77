"""The doctor: checks each configured part of a site and says what to fix."""

import os
import threading
import time
import uuid
from collections.abc import Callable
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import pyarrow as pa
from deltalake import DeltaTable, write_deltalake
from sqlalchemy import text
from sqlalchemy.engine import make_url

from meterhouse import times
from meterhouse.errors import MeterhouseError
from meterhouse.private_files import is_open_to_others, make_folder
from meterhouse.settings import FILED, Settings, declarations, file_variable, secret_files, settings, variable
from meterhouse.site import Site

CLOCK_TOLERANCE_SECONDS = 2.0
RACERS, COMMITS = 3, 5


def examine() -> list[dict[str, Any]]:
    """Check every part. Returns rows of `part`, `state` (ok, warning or failed) and `finding`. Never raises."""
    found: list[dict[str, Any]] = []

    def check(part: str, test: Callable[[], tuple[str, str]]) -> bool:
        try:
            state, finding = test()
        except MeterhouseError as error:
            state, finding = "failed", str(error)
        except Exception as error:
            state, finding = "failed", f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        found.append({"part": part, "state": state, "finding": finding})
        return state != "failed"

    if not check("settings", _settings):
        return found
    found += _definitions(settings())
    check("quality rules", lambda: _rules(settings()))
    check("alarms", lambda: _alarms(settings()))
    sites: list[Site] = []
    if check("warehouse", lambda: _warehouse(settings(), sites)):
        site = sites[0]
        check("access", lambda: _access(site))
        check("clocks", lambda: _clocks(site))
        try:
            found += _stream(site)
        except (MeterhouseError, OSError) as error:
            found.append({"part": "stream", "state": "failed", "finding": str(error)})
        check("definition paths", lambda: _drift(site))
        check("lake", lambda: _lake(site))
        check("lake commits", lambda: _race(site))
    return found


def _settings() -> tuple[str, str]:
    known = set(map(variable, declarations())) | set(map(file_variable, FILED)) | {"METERHOUSE_DEBUG"}
    home = f"home {settings().home_path}"
    names = {name for name in os.environ if name.startswith("METERHOUSE_")}
    unknown = sorted(name for name in names - known if not name.startswith(("METERHOUSE_TEST_", "METERHOUSE_SERVICE")))
    if unknown:
        near = get_close_matches(unknown[0], known, n=1)
        meant = f", did you mean {near[0]}?" if near else ""
        return "warning", f"{home}; unknown setting {', '.join(unknown)}{meant}"
    return "ok", home


def _definitions(values: Settings) -> list[dict[str, Any]]:
    from meterhouse.definitions.checking import check_folder

    checked = check_folder(
        values.config_dir, icehouse_names=values.icehouse_names, icehouse_meters=values.icehouse_meters
    )
    if not checked.findings:
        counts = f"{checked.meters} meters and {checked.events} event definitions, all of them valid"
        return [{"part": "definitions", "state": "ok", "finding": counts}]
    states = {"fault": "failed", "warning": "warning"}
    return [
        {"part": "definitions", "state": states[finding.severity], "finding": str(finding)}
        for finding in checked.findings
    ]


def _drift(site: Site) -> tuple[str, str]:
    from meterhouse.conversion.drift import drifted

    found = drifted(site)
    if not found:
        return "ok", "every path that has found a value still finds one"
    worst = found[0]
    return "warning", (
        f"{len(found)} paths no longer find a value; '{worst.path}' in {worst.event_type} found one in "
        f"{worst.found} of {worst.of} messages, then in none of {worst.missed}; see `meterhouse definitions drift`"
    )


def _rules(values: Settings) -> tuple[str, str]:
    from meterhouse.definitions.quality_rules import load

    rules = load(values.config_dir)
    return "ok", f"{len(rules.rules)} rules of {rules.path}"


def _alarms(values: Settings) -> tuple[str, str]:
    from meterhouse.alarms.definitions import load

    return "ok", f"{len(load(values.config_dir))} alarms"


def _warehouse(values: Settings, sites: list[Site]) -> tuple[str, str]:
    sites.append(Site.open(values))
    kind = "SQLite" if sites[0].warehouse.is_sqlite else "PostgreSQL"
    return "ok", f"{kind}, schema revision {sites[0].warehouse.revision()}"


def _access(site: Site) -> tuple[str, str]:
    """Who can read what the site keeps in files. An object store and PostgreSQL have their own accounts."""
    values = site.settings
    kept = [values.home_path, *secret_files()]
    if site.warehouse.is_sqlite:
        kept.append(Path(make_url(values.warehouse).database or ""))
    if not values.lake.startswith("s3://"):
        kept.append(Path(values.lake))
    # What lies in a folder that nobody else may enter is not open.
    closed = {path for path in kept if path.exists() and not is_open_to_others(path)}
    exposed = [path for path in kept if is_open_to_others(path) and not closed.intersection(path.parents)]
    if exposed:
        return "warning", f"every user of this machine can read {exposed[0]}; run `chmod o-rwx {exposed[0]}`"
    return "ok", "other users of this machine cannot read the site's files"


def _clocks(site: Site) -> tuple[str, str]:
    if site.warehouse.is_sqlite:
        return "ok", "one machine"
    with site.warehouse.read() as connection:
        theirs = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
    apart = abs((times.now() - theirs).total_seconds())
    if apart > CLOCK_TOLERANCE_SECONDS:
        return "warning", f"the clocks of the warehouse and this machine differ by {apart:.1f} s; set both by NTP"
    return "ok", f"{apart:.2f} s between this machine and the warehouse"


def _stream(site: Site) -> list[dict[str, Any]]:
    """One row for each queue or folder, and one for collection as a whole."""
    from meterhouse.collection.lag import measure
    from meterhouse.stream.amqp import AmqpStream

    values = site.settings
    if values.is_spool:
        probe = values.spool / f".probe-{uuid.uuid4().hex}"
        make_folder(values.spool)
        probe.touch()
        probe.unlink()
    found = measure(site)
    rows = []
    for queue in found.queues:
        state, text = "ok", f"{queue.place}: nothing waits"
        if queue.missing:
            state, text = "warning", f"{queue.place}: the queue does not exist; see METERHOUSE_STREAM_QUEUES"
        elif queue.messages:
            unit = "files" if values.is_spool else "messages"
            text = f"{queue.place}: {queue.messages} {unit} wait"
            if queue.age_seconds is not None:
                text += f", the oldest for {queue.age_seconds:.0f} s"
                state = "ok" if queue.age_seconds <= values.stream_late_seconds else "warning"
        rows.append({"part": "stream", "state": state, "finding": text})
    if isinstance(site.stream, AmqpStream):
        for broker, exchanges in site.stream.missing_exchanges.items():
            for exchange in sorted(exchanges):
                text = f"{broker}: exchange {exchange} does not exist; see METERHOUSE_STREAM_EXCHANGES"
                rows.append({"part": "stream", "state": "warning", "finding": text})
    rate = "no run yet" if found.rate is None else f"the last run took {found.rate:,.0f} messages/s"
    drain = "" if not found.drain_seconds else f"; what waits takes {found.drain_seconds:,.0f} s at this rate"
    state = "ok" if found.keeps_up(values.stream_late_seconds) else "warning"
    rows.append({"part": "collection", "state": state, "finding": f"{rate}{drain}"})
    return rows


def _lake(site: Site) -> tuple[str, str]:
    path = f"probe/{uuid.uuid4().hex}"
    site.lake.put(path, b"probe")
    if site.lake.get(path) != b"probe":
        return "failed", f"{site.lake.url} returned other content than was written"
    site.lake.filesystem.rm_file(f"{site.lake.url}/{path}")
    return "ok", f"{site.lake.url}, samples at version {site.lake.version('samples')}"


def _race(site: Site) -> tuple[str, str]:
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
        return "failed", f"of {wanted} racing commits {wanted - kept} were lost; use another object store"
    return "ok", f"{wanted} racing commits kept, {(time.monotonic() - clock) / wanted * 1000:.0f} ms each"
