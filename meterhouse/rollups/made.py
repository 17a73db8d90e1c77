"""The roll-ups that a pass makes: rows of shards, gathered by tier and day, and written while the pass goes on."""

from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from itertools import pairwise

import numpy as np
import pyarrow as pa

from meterhouse import times
from meterhouse.rollups.rows import FOLDED, SCHEMA
from meterhouse.sample_quality.judging import DAY
from meterhouse.sample_quality.reading import heads, plain
from meterhouse.sample_quality.verdicts import HOUR
from meterhouse.stores.lake import Lake
from meterhouse.stores.lake_replace import Part

ROWS_A_FILE = 400_000
"""About how many rows a file gets. Files are written at the same time."""

FEW_ROWS = 10_000
"""Fewer rows of a tier and day are kept, and written together with the small files that are there."""

HOURLY = ["series_id", "bucket", "last", "last_at", "metadata_id"]
"""The columns of hourly rows that memory keeps if there are later hours, to find those that start from them."""

OPEN = "open"
"""How the names of files of days start that are not over, and whose percentiles are not known yet."""


@dataclass
class Made:
    """What is made for some hours, in one pass or in all of them. It can be pickled.

    Attributes:
        parts: by granularity in seconds and day.
        hourly: all rows of an hour each, if a column of them is kept.
        hourly_files: for each table of `hourly`, the files that were written of it, by hour since 1970: of hours of
            running days only.
        kept: the columns of `hourly`: FOLDED if a day is running, HOURLY if there are later hours.
        rows: how many rows of all tiers each day gets.
        running: days that are not over. Each of their hours gets files of its own, for it is replaced again and again.
    """

    parts: dict[tuple[int, date], Part] = field(default_factory=dict)
    hourly: list[pa.Table] = field(default_factory=list)
    hourly_files: list[dict[int, list[str]]] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    rows: Counter[date] = field(default_factory=Counter)
    running: set[date] = field(default_factory=set)

    @classmethod
    def of(cls, hours: Sequence[datetime], finer: Sequence[int], running: Iterable[date], *, carried: bool) -> "Made":
        """Nothing yet, in place of what there is of these hours in the finer tiers, and of their days.

        Args:
            hours: which.
            finer: the tiers, in seconds.
            running: days that are not over, and whose percentiles are not known yet.
            carried: whether there are later hours, which may start from what is made.
        """
        days: dict[date, list[datetime]] = {}
        for hour in hours:
            days.setdefault(hour.date(), []).append(hour)
        parts = {(seconds, day): Part(of_day) for seconds in finer for day, of_day in days.items()}
        parts |= {(86400, day): Part(times.hours_of(day)) for day in days}
        made = cls(parts)
        for day in running:
            made.parts[86400, day].prefix = OPEN
            made.running.add(day)
        made.kept = FOLDED if made.running else HOURLY if carried else []
        return made

    def add(self, lake: Lake, threads: ThreadPoolExecutor, seconds: int, tables: Sequence[pa.Table]) -> None:
        """Add rows of a tier, in order; many are written at once."""
        rows = pa.concat_tables([SCHEMA.empty_table(), *tables])
        jobs: list[tuple[Part, date, pa.Table, list[str]]] = []
        by_hour: dict[int, list[str]] = {}
        for day, of_day in _by_day(rows):
            part = self.parts[seconds, day]
            self.rows[day] += of_day.num_rows
            if of_day.num_rows < FEW_ROWS:
                part.rows.append(of_day)
                continue
            of_hours = day in self.running and seconds < 86400
            for hour, piece in apart(of_day, HOUR) if of_hours else [(0, of_day)]:
                paths = by_hour.setdefault(hour, []) if of_hours else list[str]()
                number = -(-piece.num_rows // ROWS_A_FILE)
                edges = np.linspace(0, piece.num_rows, number + 1).astype(int)
                jobs += [(part, day, piece.slice(a, b - a), paths) for a, b in pairwise(edges.tolist())]

        def write(job: tuple[Part, date, pa.Table, list[str]]) -> None:
            part, day, piece, paths = job
            values = {"granularity_s": seconds, "event_day": day}
            file = lake.write_part("rollups", values, piece, part.prefix)
            part.files.append(file)
            paths.append(file.path)

        list(threads.map(write, jobs))
        if seconds == 3600 and self.kept:
            self.hourly.append(rows.select(self.kept))
            self.hourly_files.append(by_hour)

    def join(self, later: "Made") -> None:
        """Add what was made of later series, for the same hours."""
        for place, part in later.parts.items():
            self.parts[place].rows += part.rows
            self.parts[place].files += part.files
        self.hourly += later.hourly
        self.hourly_files += later.hourly_files
        self.rows += later.rows

    def discard(self, lake: Lake) -> None:
        """Delete what was written; nothing of it is committed."""
        lake.discard("rollups", [file for part in self.parts.values() for file in part.files])


def is_open(path: str) -> bool:
    """Whether a file of days was written before the day was over, and lacks percentiles."""
    return path.rsplit("/", 1)[-1].startswith(f"{OPEN}-")


def _by_day(rows: pa.Table) -> list[tuple[date, pa.Table]]:
    """The rows of each day, in their order."""
    first = times.EPOCH.date()
    return [(first + timedelta(days=number), piece) for number, piece in apart(rows, DAY)]


def apart(rows: pa.Table, span: int) -> list[tuple[int, pa.Table]]:
    """The rows of each span of so many µs since 1970, in their order, and the span's number."""
    numbers = plain(rows["bucket"].combine_chunks()) // span
    if not len(numbers):
        return []
    first, last = int(numbers.min()), int(numbers.max())
    if first == last:
        return [(first, rows)]
    found = np.unique(numbers[heads(numbers)])
    order = np.argsort(numbers, kind="stable")
    rows, numbers = rows.take(pa.array(order)), numbers[order]
    edges = [*np.searchsorted(numbers, found).tolist(), len(numbers)]
    return [(number, rows.slice(edges[n], edges[n + 1] - edges[n])) for n, number in enumerate(found.tolist())]
