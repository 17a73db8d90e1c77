"""A cycle of 100,000 threshold alarms, beside Aodh's evaluator in the same run.

    python bench/alarms.py [--only PART,…] [--series N] [--quick]

Parts, the first four in SQLite and, if a server can be had, in PostgreSQL:

- cycle: an alarm for each of 100,000 series: the mean of five periods of 60 s, states saved. Nothing changes. Once, all
  go from `insufficient data` to `ok`.
- changing: as many alarms; one in a hundred changes its state, with history and a notification in the outbox.
- idle: as many alarms; no meter that they read has points in any window.
- groups: 1,000 alarms over scaling groups of 100 members each, which metadata of the samples tells.
- aodh: Aodh 23's own evaluation service, with the same rule, on the same values, for about 20 seconds. It asks a server
  on loopback that answers from memory in Gnocchi's format; a real Gnocchi would take longer.

Each line is a whole cycle, from the lease to the commit, in a fresh process, after imports; of several runs the least
seconds are given. A line in brackets is the command `meterhouse alarms evaluate`, with its start, by the clock. The CPU
seconds of a PostgreSQL server are not counted.
"""

import json
import math
import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import _aodh
import _measured
import numpy as np
import pyarrow as pa
from _measured import Clock, Cost, best, measured
from _parts import again_with, parsed
from rollup import SERVERS, database, machine
from sqlalchemy import text

from meterhouse import identity, times
from meterhouse.alarms.definitions.wanted import Condition, Wanted
from meterhouse.alarms.evaluation.evaluate import evaluate
from meterhouse.alarms.evaluation.requests import requests_of
from meterhouse.alarms.evaluation.windows import windows
from meterhouse.catalog import catalog
from meterhouse.settings import read_settings
from meterhouse.site import Site
from meterhouse.stores.bulk import bulk_insert
from meterhouse.stores.lake_tables import CONVERTED, SAMPLES, TIME

NAMES = 58
GROUP = 100
BEFORE, AFTER = 8, 25
"""Minutes of points before and after the start, because the command evaluates the present."""

METER = ("openstack", "cpu_util", "gauge", "%")
DIMENSIONS = ("source", "meter", "type", "unit", "resource_id", "project_id", "user_id")


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    series: int = 100_000
    rounds: int = 3
    aodh_alarms: int = 20_000
    aodh_seconds: int = 20


QUICK = Sizes(series=300, rounds=1, aodh_alarms=20, aodh_seconds=5)


@dataclass(frozen=True)
class Place:
    """A site that is measured: its folders, its database, and the moment that its points surround."""

    home: Path
    url: str
    moment: datetime

    def opened(self, config: str = "each") -> Site:
        """The site with its tables open; `config` names the alarms."""
        folder = self.home / config
        site = Site.open(read_settings(home=self.home, warehouse_url=self.url, config_dir=folder))
        site.lake.table("samples")
        return site


def resource(number: int) -> str:
    """The id of a resource, a UUID."""
    return str(uuid.UUID(int=(number * 2_654_435_761 % 2**32) << 96 | number))


# -- what is measured, each in a process of its own ----------------------------------------------------------------


@dataclass(frozen=True)
class Cycle:
    """What a cycle did."""

    alarms: int
    transitions: int
    notifications: int
    states: dict[str, int]


def cycle(clock: Clock, place: Place, config: str, moment: datetime) -> Cycle:
    """Evaluate all alarms at a moment."""
    site = place.opened(config)
    with clock:
        done = evaluate(site, moment)
    site.warehouse.engine.dispose()
    if done.faults:
        raise RuntimeError(done.faults[0])
    return Cycle(done.alarms, len(done.transitions), done.notifications, dict(done.states))


def filled(clock: Clock, home: Path, url: str, series: int) -> Place:
    """Make a site with a point a minute on each series, and the files of its alarms."""
    place = Place(home, url, times.now().replace(microsecond=0))
    write_alarms(home, series)
    site = place.opened()
    rows = [(*METER, resource(n), f"{n % 200:032x}", f"{n % 500:032x}") for n in range(series)]
    ids = pa.array([identity.series_id(*row) for row in rows], pa.int64())
    texts = {name: pa.array(column) for name, column in zip(DIMENSIONS, zip(*rows, strict=True), strict=True)}
    random = np.random.default_rng(7)
    for minute in range(-BEFORE, AFTER):
        at = times.micros(place.moment) + minute * 60_000_000 + 7_000_000
        arrival = times.arrival_hour(place.moment + timedelta(minutes=minute))
        columns = {
            "arrival_hour": pa.repeat(pa.scalar(arrival), series),
            "series_id": ids,
            "timestamp": pa.array(np.full(series, at)).cast(TIME),
            "volume": pa.array(random.uniform(0, 80, series).round(2)),
            "sample_id": pa.array(random.integers(-(2**63), 2**63, series, np.int64)),
            "recorded_at": pa.array(np.full(series, at + 3_000_000)).cast(TIME),
            **texts,
            "metadata_id": pa.array(np.arange(series)),
            "origin": pa.repeat(pa.scalar(CONVERTED), series),
        }
        site.lake.append("samples", pa.table({name: columns[name] for name in SAMPLES.names}))
    catalog(site)
    with site.warehouse.begin() as connection:
        metadata = {"metadata_id": pa.array(np.arange(series)), "metadata": [described(n) for n in range(series)]}
        bulk_insert(connection, "resource_metadata", pa.table(metadata))
    site.warehouse.engine.dispose()
    return place


def described(number: int) -> str:
    """The metadata of a series, about as long as that of an instance."""
    about = {
        "display_name": f"worker-{number:06}",
        "host": f"{number % 997:056x}",
        "flavor": {"name": "m1.small", "vcpus": 1, "ram": 2048, "disk": 20, "id": f"{number % 17}"},
        "image_ref_url": f"http://glance.example.org/images/{number % 31:032x}",
        "status": "active",
        "user_metadata": {"server_group": f"g{number // GROUP}"},
    }
    return json.dumps(about)


def write_alarms(home: Path, series: int) -> None:
    """Write the alarms: one for each series, and one for each group."""

    def written(name: str, lines: list[str]) -> None:
        (home / name).mkdir(parents=True, exist_ok=True)
        (home / name / "alarms.yaml").write_text("alarms:\n" + "\n".join(lines) + "\n")

    rule = "meter_name: cpu_util, comparison_operator: gt, threshold: 90, period: 60, evaluation_periods: 5"
    url = "http://receiver.example.org/alarm"
    written(
        "each",
        [
            f"- {{name: cpu of {n:06}, alarm_actions: ['{url}'], ok_actions: ['{url}'], threshold_rule: {{{rule}, "
            f"query: [{{field: resource_id, op: eq, value: {resource(n)}}}]}}}}"
            for n in range(series)
        ],
    )
    key = "metadata.user_metadata.server_group"
    written(
        "groups",
        [
            f"- {{name: group {n:04}, alarm_actions: ['{url}'], threshold_rule: {{{rule}, "
            f"query: [{{field: {key}, op: eq, value: g{n}}}]}}}}"
            for n in range(series // GROUP)
        ],
    )


def one_in_a_hundred(place: Place) -> None:
    """Let these alarms be in another state than their points say."""
    site = place.opened()
    with site.warehouse.begin() as connection:
        connection.execute(text("UPDATE alarms SET state = 'alarm' WHERE name LIKE '%00'"))
    site.warehouse.engine.dispose()


def by_command(place: Place) -> float:
    """The seconds of the command, with its start."""
    environment = {
        **os.environ,
        "METERHOUSE_HOME": str(place.home),
        "METERHOUSE_CONFIG_DIR": str(place.home / "each"),
        "METERHOUSE_WAREHOUSE_URL": place.url,
    }
    measured(cycle, place, "each", times.now())  # so that no minute was missed
    command = [sys.executable, "-m", "meterhouse", "alarms", "evaluate", "--json"]
    clock = time.perf_counter()
    subprocess.run(command, check=True, env=environment, capture_output=True)
    return time.perf_counter() - clock


def measures(clock: Clock, place: Place, count: int) -> dict[str, list[tuple[str, float]]]:
    """The periods of a window of some resources, as Gnocchi would answer."""
    site = place.opened()
    names = [resource(n) for n in range(count)]
    query = [(Condition("resource_id", "eq", name),) for name in names]
    wanted = [Wanted("cpu_util", each, evaluation_periods=5, aligned=True) for each in query]
    found = windows(site, requests_of(wanted), place.moment)
    made = {}
    for number, name in enumerate(names):
        window = found.of(number)
        starts = [times.text(times.EPOCH + timedelta(microseconds=start)) for start in window.starts]
        made[name] = list(zip(starts, window.values, strict=True))
    site.warehouse.engine.dispose()
    return made


# -- the table -----------------------------------------------------------------------------------------------------


def title(said: str) -> None:
    print(f"\n{said}")
    print(f"{'':{NAMES}}{'alarms':>9}{'changed':>9}{'wall s':>9}{'CPU s':>9}{'alarms/s':>11}{'peak MB':>9}", flush=True)


def line(name: str, alarms: int, changed: int, cost: Cost) -> None:
    rate = alarms / cost.wall
    peak = f"{cost.peak_mb:9.0f}" if cost.peak_mb else ""
    print(f"{name:{NAMES}}{alarms:9,}{changed:9,}{cost.wall:9.2f}{cost.cpu:9.2f}{rate:11,.0f}{peak}", flush=True)


def of_cycles(name: str, costs: list[Cost]) -> None:
    cost = best(costs)
    line(name, cost.answer.alarms, cost.answer.transitions, cost)


# -- the parts -----------------------------------------------------------------------------------------------------


def in_database(name: str, place: Place, sizes: Sizes, only: list[str]) -> None:
    """The parts that are measured in each database."""
    title(f"{name}: {sizes.series:,} series, a point a minute, windows of 6 minutes")
    first = measured(cycle, place, "each", place.moment)  # with the file applied, which is measured elsewhere
    if "cycle" in only:
        measured(reset, place)
        line(
            "all alarms change, and their definitions are read", *figures(measured(cycle, place, "each", place.moment))
        )
        of_cycles("nothing changes", again(sizes, place, "each", place.moment))
        seconds = by_command(place)
        line("(the command, with its start)", first.answer.alarms, 0, Cost(seconds, math.nan, 0.0, None))
    if "changing" in only:
        costs = []
        for _ in range(sizes.rounds):
            one_in_a_hundred(place)
            costs.append(measured(cycle, place, "each", place.moment))
        assert best(costs).answer.notifications == best(costs).answer.transitions > 0
        of_cycles("one in a hundred changes, with history and outbox", costs)
    if "idle" in only:
        later = place.moment + timedelta(hours=2)
        measured(cycle, place, "each", later)
        of_cycles("no points in any window", again(sizes, place, "each", later + timedelta(minutes=1)))
    if "groups" in only:
        measured(cycle, place, "groups", place.moment)
        of_cycles(f"groups of {GROUP} by metadata", again(sizes, place, "groups", place.moment))


def figures(cost: Cost) -> tuple[int, int, Cost]:
    return cost.answer.alarms, cost.answer.transitions, cost


def again(sizes: Sizes, place: Place, config: str, moment: datetime) -> list[Cost]:
    return [measured(cycle, place, config, moment) for _ in range(sizes.rounds)]


def reset(clock: Clock, place: Place) -> None:
    """Let all alarms be as if they were new, and what their definitions say be unknown."""
    site = place.opened()
    with site.warehouse.begin() as connection:
        connection.execute(text("UPDATE alarms SET state = 'insufficient data', state_reason = 'Not evaluated yet'"))
    (place.home / "alarms.arrow").unlink(missing_ok=True)
    site.warehouse.engine.dispose()


def aodh(place: Place, sizes: Sizes) -> None:
    """Aodh's evaluator on the same values."""
    title(f"Aodh {_aodh.VERSION}, SQLite, measures answered from memory in Gnocchi's format")
    found = _aodh.measure(place.home / "aodh", measured(measures, place, sizes.aodh_alarms).answer, sizes.aodh_seconds)
    if found.states != {"ok": sizes.aodh_alarms}:
        raise RuntimeError(f"Aodh evaluated other values: {found.states}")
    line("nothing changes", found.alarms, 0, Cost(found.seconds, found.cpu, 0.0, None))


@contextmanager
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="meterhouse-bench-") as name:
        yield Path(name)


def main(arguments: list[str]) -> None:
    """Measure and print."""
    parts = ("cycle", "changing", "idle", "groups", "aodh")
    given = parsed("Measure a cycle of alarms, beside Aodh's evaluator.", parts, Sizes().series, arguments)
    if not given.quick:
        again_with("postgres", __file__, arguments)
    _measured.fresh = not given.quick
    sizes = QUICK if given.quick else Sizes(series=given.series)
    print(machine())
    with folder() as home:
        place: Place = measured(filled, home, "", sizes.series).answer
        if "aodh" in given.only:
            aodh(place, sizes)
        if set(given.only) != {"aodh"}:
            in_database("SQLite", place, sizes, given.only)
    server = os.environ.get(SERVERS["gnocchi"])
    if server and set(given.only) != {"aodh"}:
        with database(server) as url, folder() as home:
            place = measured(filled, home, url, sizes.series).answer
            in_database("PostgreSQL (without the server's CPU)", place, sizes, given.only)


if __name__ == "__main__":
    main(sys.argv[1:])
