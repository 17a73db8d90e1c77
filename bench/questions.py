"""Questions and their answers: `statistics` in a process that has its tables open, beside the same by other means.

    python bench/questions.py [--only PART,…] [--series N] [--quick]

Parts:

- day: hourly means by project over a day of 2,000 series, a point a minute, beside VictoriaMetrics on the same points.
- month: daily means by project over 30 days of 1,000 series.
- points: hourly figures that roll-ups do not have: percentiles, ragged periods, and hours that are all dirty.

The file is not named for what it measures: Python's own module `statistics` would be this one.

The floor of each is a bare DuckDB query over the files that the answer needs, read anew each time as ours are: the
roll-ups' files for means, the points' files for percentiles. It knows the projects by a join with a table in memory,
judges nothing, and does not ask whether what it reads is up to date.

Each line is the least of several times by the clock, in one process, after one question that does not count. "Answers"
are rows of the answer, which is in columns; whoever shows it makes mappings of them.
"""

import math
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from _measured import Clock, measured
from _parts import again_with, parsed
from _points import DAY_MINUTES, METERS, Fleet
from rollup import DAY, NAMES, SERVERS, filled, folder, machine, opened, roll

from meterhouse import times
from meterhouse.queries.statistics import Question, explained
from meterhouse.scopes import EVERYTHING
from meterhouse.stores.duck import arrow

METER = METERS[0][0]


@dataclass(frozen=True)
class Sizes:
    """How much of each part is measured. A third of the series are of the meter that is asked for."""

    series: int = 6_000
    month_series: int = 3_000
    days: int = 30
    rounds: int = 7


QUICK = Sizes(60, 30, 2, 2)


@dataclass(frozen=True)
class Asked:
    """Least seconds of one question, how many answers it has, and from what they come."""

    seconds: float
    answers: int
    sources: list[dict[str, Any]] = field(default_factory=list)


def least(rounds: int, ask: Callable[[], Any]) -> tuple[float, Any]:
    """The least seconds that a call takes, after one that does not count, and its last answer."""
    answer, best = ask(), math.inf
    for _ in range(rounds):
        clock = time.perf_counter()
        answer = ask()
        best = min(best, time.perf_counter() - clock)
    return best, answer


# -- what is measured, each in a process of its own ----------------------------------------------------------------


def ours(clock: Clock, home: Path, question: Question, rounds: int) -> Asked:
    """A question of ours."""
    site = opened(home)
    seconds, (answer, found) = least(rounds, lambda: explained(site, question))
    return Asked(seconds, len(answer), found.rows())


def bare(clock: Clock, home: Path, fleet: Fleet, granularity: int, bucket: str, what: str, rounds: int) -> Asked:
    """The floor: what a bare query takes; `granularity` 0 is that of the points."""
    import pyarrow as pa

    site = opened(home)
    table = "rollups" if granularity else "samples"
    partitions = {"granularity_s": [granularity]} if granularity else None
    chosen = [n for n, meter in enumerate(fleet.dimensions["meter"]) if meter == METER]
    dims = pa.table(
        {
            "series_id": fleet.ids[chosen],
            "project_id": [fleet.dimensions["project_id"][n] for n in chosen],
        }
    )
    with site.lake.connect() as duck:
        duck.register("dims", dims)

        def ask() -> list[Any]:
            site.lake.view(duck, table, site.lake.files(table, partitions=partitions))
            columns = f"dims.project_id, {bucket} AS bucket, {what}"
            return arrow(duck, f"SELECT {columns} FROM {table} JOIN dims USING (series_id) GROUP BY ALL").to_pylist()

        seconds, rows = least(rounds, ask)
    return Asked(seconds, len(rows))


def mark_all(clock: Clock, home: Path, hours: list[datetime]) -> None:
    """Mark hours dirty."""
    from meterhouse.catalog import mark_dirty

    with opened(home).warehouse.begin() as connection:
        mark_dirty(connection, hours, "measured")


# -- the table -----------------------------------------------------------------------------------------------------


def title(text: str) -> None:
    """Print the head of a part's table."""
    print(f"\n{text}\n{'':{NAMES}}{'answers':>9}{'ms':>9}{'× floor':>9}", flush=True)


def line(name: str, asked: Asked, floor: Asked | None = None) -> None:
    """Print a line of a table."""
    ratio = f"{asked.seconds / floor.seconds:9.2f}" if floor else ""
    print(f"{name:{NAMES}}{asked.answers:9,}{asked.seconds * 1e3:9.1f}{ratio}", flush=True)
    for source in asked.sources:
        why = f" ({source['why']})" if source["why"] else ""
        print(f"    {source['source']}: {source['rows']:,} rows of {source['files']:,} files{why}", flush=True)


# -- parts ---------------------------------------------------------------------------------------------------------


def by_project(start: datetime, days: int, **more: Any) -> Question:
    """A question for means by project."""
    end = start + timedelta(days=days)
    return Question(
        EVERYTHING, METER, **{"aggregate": ["avg"], "groupby": ["project_id"], "start": start, "end": end, **more}
    )


def day(sizes: Sizes) -> None:
    """Hourly means of a day."""
    fleet = Fleet(sizes.series)
    with folder() as home:
        filled(home, fleet, DAY, list(range(DAY_MINUTES)), 60)
        measured(roll, home)
        title(f"Hourly means by project, a day of {sizes.series // 3:,} series")
        means = "sum(sum) / sum(count)"
        floor = measured(bare, home, fleet, 3600, "bucket", means, sizes.rounds).answer
        line("floor: a bare query over the hourly roll-ups", floor)
        line("Meterhouse", measured(ours, home, by_project(DAY, 1, period=3600), sizes.rounds).answer, floor)
        if server := os.environ.get(SERVERS["victoria"]):
            import _victoria

            victoria = _victoria.Victoria(server)
            victoria.take(fleet, DAY)
            found = [victoria.hourly_means_by_project(METER, DAY) for _ in range(sizes.rounds + 1)]
            line("VictoriaMetrics", Asked(min(seconds for seconds, _ in found[1:]), found[-1][1]))


def month(sizes: Sizes) -> None:
    """Daily means of a month."""
    fleet = Fleet(sizes.month_series)
    with folder() as home:
        filled(home, fleet, DAY, list(range(0, DAY_MINUTES * sizes.days, 10)), 60)
        measured(roll, home)
        title(f"Daily means by project, {sizes.days} days of {sizes.month_series // 3:,} series")
        floor = measured(bare, home, fleet, 86_400, "bucket", "sum(sum) / sum(count)", sizes.rounds).answer
        line("floor: a bare query over the daily roll-ups", floor)
        question = by_project(DAY, sizes.days, period=86_400)
        line("Meterhouse", measured(ours, home, question, sizes.rounds).answer, floor)
        calendar = by_project(DAY, sizes.days, period="day", timezone="Europe/Berlin")
        line("Meterhouse: days of Berlin", measured(ours, home, calendar, sizes.rounds).answer, floor)


def points(sizes: Sizes) -> None:
    """Hourly figures that need the points."""
    fleet, rounds = Fleet(sizes.series), min(sizes.rounds, 2)
    with folder() as home:
        filled(home, fleet, DAY, list(range(DAY_MINUTES)), 60)
        measured(roll, home)
        title(f"Hourly figures by project from points, a day of {sizes.series // 3:,} series")
        bucket = "time_bucket(INTERVAL 1 hour, timestamp)"
        floor = measured(bare, home, fleet, 0, bucket, "avg(volume)", rounds).answer
        line("floor: a bare query for means over the points", floor)
        ragged = by_project(DAY, 1, period=3600, anchor=DAY + timedelta(seconds=100))
        line("Meterhouse: means, ragged periods", measured(ours, home, ragged, rounds).answer, floor)
        measured(mark_all, home, times.hours_of(DAY.date()))
        line("Meterhouse: means, dirty", measured(ours, home, by_project(DAY, 1, period=3600), rounds).answer, floor)
        floor = measured(bare, home, fleet, 0, bucket, "quantile_cont(volume, 0.95)", rounds).answer
        line("floor: a bare query for p95 over the points", floor)
        p95 = by_project(DAY, 1, period=3600, aggregate=["p95"])
        line("Meterhouse: p95, dirty", measured(ours, home, p95, rounds).answer, floor)


PARTS: dict[str, Callable[[Sizes], None]] = {"day": day, "month": month, "points": points}


def main(arguments: list[str]) -> None:
    given = parsed(__doc__.splitlines()[0], PARTS, Sizes.series, arguments)
    if "day" in given.only:
        again_with("victoria", __file__, arguments)
    sizes = QUICK if given.quick else Sizes(series=given.series)
    print(machine())
    for part in given.only:
        PARTS[part](sizes)


if __name__ == "__main__":
    main(sys.argv[1:])
