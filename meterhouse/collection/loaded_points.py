"""The points of a file, kept until all are read, and then taken by event time.

Points of one series and time may be anywhere in a file. So they are gathered by event hour, in bounded memory: what
does not fit is in a file of no name, which ends with the process.
"""

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

import numpy as np
import numpy.typing as npt

from meterhouse import times
from meterhouse.collection.judged_rows import Codes, Floats, Integers
from meterhouse.errors import MeterhouseError
from meterhouse.private_files import make_folder
from meterhouse.stores.lake_cuts import MICROS
from meterhouse.times import Span

RUN_ROWS: Final = 1 << 20
"""Points that are put in order together, while other threads read on."""

HELD_ROWS: Final = 12 * RUN_ROWS
"""Points that are held in memory: 20 bytes each."""


@dataclass
class Points:
    """Points: the numbers of their series, times in µs since 1970 UTC, volumes; shape (n,) each."""

    series: Codes
    micros: Integers
    volumes: Floats

    def __len__(self) -> int:
        return len(self.series)

    @property
    def columns(self) -> tuple[npt.NDArray[Any], ...]:
        """The three columns."""
        return self.series, self.micros, self.volumes

    def take(self, places: npt.NDArray[Any] | slice) -> "Points":
        """The points at these places, or where this is true."""
        return Points(self.series[places], self.micros[places], self.volumes[places])


def joined(parts: list[Points]) -> Points:
    """Points one after another."""
    if len(parts) == 1:
        return parts[0]
    return Points(
        np.concatenate([part.series for part in parts]),
        np.concatenate([part.micros for part in parts]),
        np.concatenate([part.volumes for part in parts]),
    )


@dataclass(frozen=True)
class Bucket:
    """Some event hours, or a part of the series of one hour. All points of a series and time are in one bucket.

    Attributes:
        first: the first event hour, since 1970.
        last: the last one.
        part: which part of the series, counted from 0.
        parts: of how many.
    """

    first: int
    last: int
    part: int = 0
    parts: int = 1

    @property
    def span(self) -> Span:
        """The hours, as a half-open span of event time."""
        return times.of_hour(self.first), times.of_hour(self.last + 1)


@dataclass
class _Run:
    """Points in the order of their event hours; of equal hours, in that of the file.

    Attributes:
        hours: the event hours that it has, since 1970, ascending; shape (h,).
        starts: the place of the first point of each, and behind them the number of points; shape (h + 1,).
        points: the points, if they are in memory.
        offset: where they are in the file otherwise.
    """

    hours: Integers
    starts: npt.NDArray[np.intp]
    points: Points | None
    offset: int = 0

    def of(self, bucket: Bucket, spilled: int) -> Points:
        """The points of a bucket's hours. `spilled` is the descriptor of the file."""
        start, end = (int(self.starts[n]) for n in np.searchsorted(self.hours, [bucket.first, bucket.last + 1]))
        if self.points is not None:
            return self.points.take(slice(start, end))
        at = self.offset

        def column(kind: type[Any]) -> npt.NDArray[Any]:
            nonlocal at
            size = np.dtype(kind).itemsize
            read = os.pread(spilled, (end - start) * size, at + start * size)
            at += int(self.starts[-1]) * size
            return np.frombuffer(read, kind)

        return Points(column(np.int32), column(np.int64), column(np.float64))


class LoadedPoints:
    """The points of a file.

    Args:
        folder: where those that do not fit into memory are written; None for the system's.
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._runs: list[_Run] = []
        self._new: list[Points] = []
        self._new_rows = self._held = 0
        self._file: IO[bytes] | None = None

    def __len__(self) -> int:
        return sum(int(run.starts[-1]) for run in self._runs) + self._new_rows

    def add(self, points: Points) -> None:
        """Add points that come after the others in the file."""
        if len(points):
            self._new.append(points)
            self._new_rows += len(points)
        if self._new_rows >= RUN_ROWS:
            self._end_run()

    def buckets(self, size: int) -> list[Bucket]:
        """All points in buckets of about so many, by event hour."""
        self._end_run()
        if not self._runs:
            return []
        hours, place = np.unique(np.concatenate([run.hours for run in self._runs]), return_inverse=True)
        counts = np.bincount(place, np.concatenate([np.diff(run.starts) for run in self._runs])).astype(np.int64)
        made: list[Bucket] = []
        since, rows = 0, 0
        for number, count in enumerate(counts.tolist()):
            if rows and rows + count > size:
                made.append(Bucket(int(hours[since]), int(hours[number - 1])))
                since, rows = number, 0
            if count > 2 * size:
                parts = -(-count // size)
                made += [Bucket(int(hours[number]), int(hours[number]), part, parts) for part in range(parts)]
                since = number + 1
            else:
                rows += count
        if rows:
            made.append(Bucket(int(hours[since]), int(hours[-1])))
        return made

    def of(self, bucket: Bucket) -> Points:
        """The points of a bucket; those of each series and time in the order of the file."""
        spilled = self._file.fileno() if self._file else -1
        points = joined([run.of(bucket, spilled) for run in self._runs])
        return points if bucket.parts == 1 else points.take(points.series % bucket.parts == bucket.part)

    def hours(self, bucket: Bucket) -> Integers:
        """The event hours of a bucket, since 1970, in order."""
        hours = np.unique(np.concatenate([run.hours for run in self._runs]))
        return hours[(hours >= bucket.first) & (hours <= bucket.last)]

    def close(self) -> None:
        """Delete what was written."""
        if self._file is not None:
            self._file.close()

    def _end_run(self) -> None:
        if not self._new:
            return
        points = joined(self._new)
        self._new, self._new_rows = [], 0
        hours = points.micros // MICROS
        if (hours[1:] < hours[:-1]).any():
            order = _order_of(hours)
            points, hours = points.take(order), hours[order]
        first = np.flatnonzero(np.diff(hours, prepend=hours[0] - 1))
        run = _Run(hours[first], np.append(first, len(hours)), points)
        if self._held + len(points) > HELD_ROWS:
            self._spill(run, points)
        else:
            self._held += len(points)
        self._runs.append(run)

    def _spill(self, run: _Run, points: Points) -> None:
        try:
            if self._file is None:
                if self._folder is not None:
                    make_folder(self._folder)
                self._file = tempfile.TemporaryFile(dir=self._folder)  # noqa: SIM115  # `close` closes it
            run.offset = self._file.seek(0, os.SEEK_END)
            for column in points.columns:
                self._file.write(np.ascontiguousarray(column).data)
            self._file.flush()
        except OSError as error:
            raise MeterhouseError(
                f"what does not fit into memory cannot be written: {error.strerror or error}",
                where=str(self._folder or tempfile.gettempdir()),
                hint="Check the free space, or load the file in parts",
            ) from error
        run.points = None


def _order_of(numbers: Integers) -> npt.NDArray[np.intp]:
    """A stable order; of numbers that are near each other, by counting."""
    low, high = int(numbers.min()), int(numbers.max())
    if high - low < 1 << 16:
        return np.argsort((numbers - low).astype(np.uint16), kind="stable")
    return np.argsort(numbers, kind="stable")
