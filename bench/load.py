"""Loading files of history, beside VictoriaMetrics' imports of the same points in the same run.

    python bench/load.py [--only PART,…] [--series N] [--quick]

Parts, in this order; each has 1,000 minutes of points of all series, by default 10 million rows:

- time: a CSV file in order of time, as collectors write it; then the same file again, of which nothing is new.
- series: a CSV file in order of series, as exports are.
- parquet: a Parquet file in order of time.
- gnocchi: measures in JSON, by metric, with the listings of Gnocchi.
- prometheus: an answer of query_range.
- victoria: VictoriaMetrics' import of the CSV file of `series`, and of JSON lines, each over two connections.

Meterhouse's lines are the whole command `meterhouse load` in a fresh process, without the start of the interpreter:
reading, judging, looking up what is known, sorting, writing, commits, and the catalog. Rows/s by the clock, and by CPU
seconds; the peak of memory of the process.
"""

import contextlib
import io
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import _measured
import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
from _measured import Clock, Cost, measured
from _parts import again_with, parsed
from _points import CADENCE, Fleet

from meterhouse import times
from meterhouse.stores.lake_tables import TIME

START = datetime(2026, 11, 1, tzinfo=UTC)
MINUTES, AT_ONCE = 1_000, 20
VICTORIA = "METERHOUSE_TEST_VICTORIA_URL"
COLUMNS = ("timestamp", "meter", "resource_id", "volume", "type", "unit", "project_id", "user_id")


def _minutes(fleet: Fleet, minutes: int) -> Iterator[pa.Table]:
    """The points in order of time."""
    for first in range(0, minutes, AT_ONCE):
        some = range(first, min(first + AT_ONCE, minutes))
        codes = np.tile(np.arange(fleet.series, dtype=np.int32), len(some))
        moments = times.micros(START) + np.repeat(np.asarray(some, np.int64), fleet.series) * CADENCE * 1_000_000
        yield _table(fleet, codes, moments, fleet.volumes(some).T.ravel())


def _series(fleet: Fleet, minutes: int) -> Iterator[pa.Table]:
    """The points in order of series."""
    moments = times.micros(START) + np.arange(minutes, dtype=np.int64) * CADENCE * 1_000_000
    volumes = np.concatenate([fleet.volumes(range(first, min(first + AT_ONCE, minutes))) for first in
                              range(0, minutes, AT_ONCE)], axis=1)  # fmt: skip
    for first in range(0, fleet.series, 200):
        some = np.arange(first, min(first + 200, fleet.series), dtype=np.int32)
        yield _table(fleet, np.repeat(some, minutes), np.tile(moments, len(some)), volumes[some].ravel())


def _table(fleet: Fleet, codes: np.ndarray, moments: np.ndarray, volumes: np.ndarray) -> pa.Table:
    columns = {
        name: pa.DictionaryArray.from_arrays(codes, fleet.dimensions[name])
        for name in COLUMNS
        if name not in ("timestamp", "volume")
    }
    made = {"timestamp": pa.array(moments).cast(TIME), "volume": volumes, **columns}
    return pa.table({name: made[name] for name in COLUMNS})


def write_csv(path: Path, tables: Iterator[pa.Table]) -> None:
    """Write rows as CSV, with times as `2026-11-01T00:00:00Z`."""
    with path.open("wb") as file:
        for number, rows in enumerate(tables):
            seconds = np.datetime_as_string(rows["timestamp"].to_numpy().astype("datetime64[s]"), timezone="UTC")
            texts = [pa.array(seconds), *(column.cast(pa.string()) for column in rows.columns[1:])]
            pacsv.write_csv(
                pa.table(dict(zip(COLUMNS, texts, strict=True))).combine_chunks(),
                file,
                pacsv.WriteOptions(include_header=number == 0, quoting_style="none"),
            )


def write_parquet(path: Path, fleet: Fleet, minutes: int) -> None:
    """Write rows as Parquet in order of time."""
    writer = None
    for rows in _minutes(fleet, minutes):
        writer = writer or pq.ParquetWriter(path, rows.schema)
        writer.write_table(rows)
    if writer is not None:
        writer.close()


def write_prometheus(path: Path, fleet: Fleet, minutes: int) -> None:
    """Write an answer of query_range."""
    names = fleet.dimensions
    with path.open("w") as file:
        file.write('{"status":"success","data":{"resultType":"matrix","result":[')
        for place, moments, volumes in _by_series(fleet, minutes):
            labels = {"__name__": names["meter"][place].replace(".", "_"), "instance": names["resource_id"][place],
                      "project_id": names["project_id"][place], "type": names["type"][place]}  # fmt: skip
            values = ",".join(f'[{moment},"{volume:.10g}"]' for moment, volume in zip(moments, volumes, strict=True))
            file.write(f'{"," if place else ""}{{"metric":{json.dumps(labels)},"values":[{values}]}}')
        file.write("]}}")


def write_gnocchi(path: Path, fleet: Fleet, minutes: int) -> tuple[Path, Path]:
    """Write measures by metric; return the listings of metrics and resources."""
    names = fleet.dimensions
    with path.open("w") as file:
        file.write("{")
        texts: list[str] = []
        for place, moments, volumes in _by_series(fleet, minutes):
            texts = texts or [datetime.fromtimestamp(moment, UTC).isoformat() for moment in moments]
            values = ", ".join(f'["{text}", 60.0, {volume!r}]' for text, volume in zip(texts, volumes, strict=True))
            file.write(f'{", " if place else ""}"{place:032x}": [{values}]')
        file.write("}")
    metrics, resources = path.with_name("metrics.json"), path.with_name("resources.json")
    metrics.write_text(
        json.dumps(
            [
                {
                    "id": f"{n:032x}",
                    "name": names["meter"][n],
                    "unit": names["unit"][n],
                    "resource_id": names["resource_id"][n],
                }
                for n in range(fleet.series)
            ]
        )
    )
    owners = zip(names["resource_id"], names["project_id"], names["user_id"], strict=True)
    resources.write_text(json.dumps([{"id": a, "project_id": b, "user_id": c} for a, b, c in sorted(set(owners))]))
    return metrics, resources


def _by_series(fleet: Fleet, minutes: int) -> Iterator[tuple[int, list[int], list[float]]]:
    moments = [int((START + timedelta(seconds=CADENCE * n)).timestamp()) for n in range(minutes)]
    volumes = np.concatenate([fleet.volumes(range(first, min(first + AT_ONCE, minutes))) for first in
                              range(0, minutes, AT_ONCE)], axis=1)  # fmt: skip
    for place in range(fleet.series):
        yield place, moments, volumes[place].tolist()


def load(clock: Clock, home: str, arguments: list[str]) -> dict[str, int]:
    """Run `meterhouse load` in this process; its figures."""
    os.environ["METERHOUSE_HOME"] = home
    printed = io.StringIO()
    with clock:
        from meterhouse.cli import cli
        from meterhouse.settings import settings

        settings.cache_clear()  # of another home, if this process has one
        with contextlib.redirect_stdout(printed):
            cli.main(["load", "--json", *arguments], standalone_mode=False)
    figures: dict[str, int] = json.loads(printed.getvalue())
    return figures


def line(name: str, rows: int, cost: Cost) -> None:
    """Print a line of figures."""
    print(
        f"{name:44}{rows / cost.wall / 1e6:8.2f} M rows/s{rows / cost.cpu / 1e6:8.2f} M rows a CPU second"
        f"{cost.wall:8.1f} s{cost.cpu:8.1f} CPU s{cost.peak_mb:8.0f} MB"
    )


def _loaded(folder: Path, name: str, rows: int, arguments: list[str], again: bool = False) -> None:
    home = Path(tempfile.mkdtemp(dir=folder))
    for known in (False, True) if again else (False,):
        cost = measured(load, str(home), arguments)
        found = cost.answer["samples_known_already" if known else "samples"]
        if found != rows:
            raise RuntimeError(f"{name}: {cost.answer}")
        line(f"{name}, again" if known else name, rows, cost)


def time_part(folder: Path, fleet: Fleet, minutes: int) -> None:
    """A CSV file in order of time, twice."""
    write_csv(folder / "time.csv", _minutes(fleet, minutes))
    _loaded(folder, "CSV in order of time", fleet.series * minutes, [str(folder / "time.csv")], again=True)
    (folder / "time.csv").unlink()


def series_part(folder: Path, fleet: Fleet, minutes: int) -> None:
    """A CSV file in order of series."""
    write_csv(folder / "series.csv", _series(fleet, minutes))
    _loaded(folder, "CSV in order of series", fleet.series * minutes, [str(folder / "series.csv")])


def parquet_part(folder: Path, fleet: Fleet, minutes: int) -> None:
    """A Parquet file."""
    write_parquet(folder / "a.parquet", fleet, minutes)
    _loaded(folder, "Parquet in order of time", fleet.series * minutes, [str(folder / "a.parquet")])
    (folder / "a.parquet").unlink()


def gnocchi_part(folder: Path, fleet: Fleet, minutes: int) -> None:
    """Measures of Gnocchi."""
    metrics, resources = write_gnocchi(folder / "measures.json", fleet, minutes)
    listings = ["--listing", str(metrics), "--listing", str(resources)]
    _loaded(folder, "Gnocchi's measures, JSON", fleet.series * minutes, [*listings, str(folder / "measures.json")])
    (folder / "measures.json").unlink()


def prometheus_part(folder: Path, fleet: Fleet, minutes: int) -> None:
    """An answer of Prometheus."""
    write_prometheus(folder / "answer.json", fleet, minutes)
    _loaded(folder, "Prometheus's query_range, JSON", fleet.series * minutes, [str(folder / "answer.json")])
    (folder / "answer.json").unlink()


def victoria_part(folder: Path, fleet: Fleet, minutes: int) -> None:
    """VictoriaMetrics on the same points."""
    from _victoria import Victoria

    server, path = Victoria(os.environ[VICTORIA]), folder / "series.csv"
    if not path.exists():
        write_csv(path, _series(fleet, minutes))
    rows = fleet.series * minutes
    kinds = ",".join(
        f"{place}:label:{name}" for place, name in enumerate(COLUMNS, 1) if name not in ("timestamp", "volume")
    )
    form = f"1:time:rfc3339,4:metric:volume,{kinds}"
    line("VictoriaMetrics, import of CSV", rows, server.import_csv(path, form))
    line("VictoriaMetrics, import of JSON lines", rows, server.import_json(fleet, START, minutes))


PARTS: dict[str, Callable[[Path, Fleet, int], None]] = {
    "time": time_part,
    "series": series_part,
    "parquet": parquet_part,
    "gnocchi": gnocchi_part,
    "prometheus": prometheus_part,
    "victoria": victoria_part,
}


def main(arguments: list[str]) -> None:
    given = parsed((__doc__ or "").split("\n")[0], PARTS, 10_000, arguments)
    if "victoria" in given.only:
        again_with("victoria", __file__, arguments)
    _measured.fresh = not given.quick
    fleet, minutes = Fleet(100 if given.quick else given.series), 40 if given.quick else MINUTES
    print(f"{fleet.series * minutes:,} rows of {fleet.series:,} series")
    with tempfile.TemporaryDirectory() as folder:
        for part in PARTS:
            if part == "victoria" and part in given.only and VICTORIA not in os.environ:
                print(f"victoria: not measured, because its server cannot be had ({VICTORIA} is not set)")
            elif part in given.only:
                PARTS[part](Path(folder), fleet, minutes)


if __name__ == "__main__":
    main(sys.argv[1:])
