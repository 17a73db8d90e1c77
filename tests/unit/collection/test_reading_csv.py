"""CSV files are read in columns, and have the same rows, dead letters and points as if they were read line by line."""

import gzip
import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import reference_load
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from meterhouse import times
from meterhouse.collection import csv_files, loaded_points, text_blocks
from meterhouse.collection.judged_rows import DIMENSIONS, Judged, judge
from meterhouse.collection.loaded_points import LoadedPoints, Points
from meterhouse.collection.loaded_series import LoadedSeries
from meterhouse.collection.new_points import new_points, order_of
from meterhouse.site import Site

LONGEST = 400


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of some lines, so that small files have many."""
    monkeypatch.setattr(csv_files, "BLOCK_BYTES", 160)
    monkeypatch.setattr(csv_files, "LINES_BYTES", 40)
    monkeypatch.setattr(text_blocks, "READ_BYTES", 64)
    monkeypatch.setattr(loaded_points, "RUN_ROWS", 4)
    monkeypatch.setattr(loaded_points, "HELD_ROWS", 8)


GOOD_TIMES = [
    *["2026-11-10T12:00:00Z", "2026-11-10T12:00:00Z", "2026-11-10T12:01:30.25Z", "2026-11-10 12:00:00", "2026-11-10"],
    *["2026-11-10T12:00:00+00:00", "2026-11-10T12:00:00.123456+01:00", "2026-11-10T13:00:00+01", "2026-11-10T12:00Z"],
]
TIMES = st.sampled_from(GOOD_TIMES * 3) | st.sampled_from(
    [
        *["2026-11-10T12", "2026-11-10T12Z", "20261110T120000Z", "2026-11-10t12:00:00z", "2026-1-1", "2026-02-30"],
        *["2026-11-10T12:00:00.1234567Z", "2026-11-10T24:00:00Z", "2026-11-10T23:59:60Z", "2026-11-10T12:00:00 Z"],
        *["2026-11-10T12:00:00-0130", "2026-11-10T12:00:00,5Z", "2026-11-10T12:00:00.Z", "2026-11-10T12:00:00.5"],
        *["1969-12-31", "1970-01-01", "2261-12-31T23:59:59.999999Z", "2262-01-01", "9999-12-31", "0001-01-01"],
        *["99999-01-01", "-2026-01-01", "infinity", "epoch", "now", "1794312000", "", "2026-11-10T12:00:00\0Z"],
    ]
)
VOLUMES = st.sampled_from(["1", "2.5", "-3e7", "0", "42"] * 5) | st.sampled_from(
    [
        *["nan", "NaN", "-nan", "inf", "-Infinity", "1e999", "1e-400", "5e-324", "+1", "1_000", "0x10", "1.", ".5"],
        *[
            "-0",
            "1e",
            "",
            "much",
            "1 2",
            "NULL",
            "nan(1)",
            "true",
            "1,5",
            "١",
            "99999999999999999999999",
            "0.1f",
            "null",
        ],
    ]
)
TEXT = st.sampled_from(["a", "b", "", "  a ", "é", "x y", "\0", "b\0", "NULL", "\u00a0a", "N/A"])
KIND = st.sampled_from(["gauge", "delta", "Cumulative", "", " DELTA", "odd", "gauge\0"])
QUOTED = st.sampled_from(["{}", "{}", "{}", "{}", '"{}"', '"{}"', ' "{}"', '"{}" ', '"{}', '{}"', '"{}""x"', '"{}\n"'])
ODD = st.sampled_from(
    [
        *[b"", b"   ", b"\r", b"x", b"2026-11-10,1", b'"', b'""', b"a\rb,1,2,3,4,5", b"\xff\xfe,1,a,b,gauge,"],
        *[b"z" * (LONGEST + 30), b"2026-11-10,1,a,b,gauge," + b"y" * 350, b"2026-11-10,1,a,b,gauge,x,y", b'a,"b\n",c'],
    ]
)


@st.composite
def row(draw: st.DrawFn) -> bytes:
    values = [draw(TIMES), draw(VOLUMES), draw(TEXT), draw(TEXT), draw(KIND), draw(st.sampled_from(["", "u", "ü\tv"]))]
    values = [draw(QUOTED).format(value) if draw(st.integers(0, 5)) == 0 else value for value in values]
    return ",".join(values).encode()


LINES = st.lists(row() | row() | row() | ODD, max_size=14)


def read(path: Path) -> tuple[list[tuple[Any, ...]], set[tuple[int, str, bytes]]]:
    samples: list[tuple[Any, ...]] = []
    letters = set()
    for part in csv_files.read_csv(path, LONGEST):
        for piece in part():
            judged = judge(piece, path, meter_needed="meter" in piece.columns)
            letters |= {(int(raw.queue.rpartition(":")[2]), raw.fault, raw.body) for raw in judged.letters}
            columns = [[texts[code] for code in codes.tolist()] for texts, codes in judged.series.values()]
            series = dict(enumerate(zip(*columns, strict=True)))
            for code, micros, volume in zip(judged.codes.tolist(), judged.micros, judged.volumes, strict=True):
                found = dict(zip(DIMENSIONS, series[code], strict=True))
                samples.append(
                    (int(micros), float(volume), *(found.get(name) for name in reference_load.TEXTS[:-1]), None)
                )
    return samples, letters


def shown(samples: list[tuple[Any, ...]]) -> list[str]:
    return [repr(each) for each in samples]  # NaN equals NaN


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=LINES, ending=st.sampled_from([b"\n", b"\r\n"]), closed=st.booleans(), packed=st.booleans())
@example(
    lines=[b'2026-11-10,1,"a', b'2026-11-10,2,b,r,gauge,"', b"2026-11-10,3,c,r,gauge,"],
    ending=b"\n",
    closed=True,
    packed=False,
)
def test_a_file_has_the_same_rows_in_columns_as_line_by_line(
    small: None, tmp_path: Path, lines: list[bytes], ending: bytes, closed: bool, packed: bool
) -> None:
    text = ending.join([b"timestamp,volume,meter,resource_id,type,unit", *lines]) + (ending if closed else b"")
    path = tmp_path / ("a.csv.gz" if packed else "a.csv")
    path.write_bytes(gzip.compress(text) if packed else text)
    samples, letters = read(path)
    expected_samples, expected_letters = reference_load.read(path, LONGEST)
    assert letters == expected_letters
    assert shown(samples) == shown(expected_samples)


MOMENT = times.parse("2026-11-20")
POINTS = st.lists(
    st.tuples(
        st.integers(0, 3),  # the series; the type is that of its number
        st.sampled_from([0, 0, 0, 1, 3_600, 7_200, 40 * 86_400, 86_400 * 365 * 200, -1]),  # seconds since the epoch
        st.sampled_from([0.0, -0.0, 1.5, 1.5, math.nan, math.inf, -7.0]),
    ),
    max_size=40,
)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=POINTS, size=st.sampled_from([1, 3, 1000]))
def test_the_points_of_a_file_are_those_of_one_sql_query(
    small: None, site: Site, tmp_path: Path, rows: list[tuple[int, int, float]], size: int
) -> None:
    kinds = ["gauge", "delta", "cumulative", "delta"]
    micros = [times.micros(MOMENT) + 1 if second < 0 else second * 1_000_000 for _, second, _ in rows]
    numbers, volumes = [number for number, _, _ in rows], [volume for _, _, volume in rows]
    series = LoadedSeries({})
    held = LoadedPoints(tmp_path)
    for place in range(len(rows)):
        texts = {name: ([kinds[numbers[place]] if name == "type" else f"s{numbers[place]}"], np.zeros(1, np.int32))
                 for name in DIMENSIONS}  # fmt: skip
        one = [np.array([column[place]], kind) for column, kind in ((micros, np.int64), (volumes, np.float64))]
        judged = Judged(texts, np.zeros(1, np.int32), one[0], one[1], [], set(), set())
        held.add(Points(series.numbers(judged), judged.micros, judged.volumes))
    ordered = series.ordered({})
    parts = [new_points(site.lake, held.of(bucket), ordered, MOMENT, []) for bucket in held.buckets(size)]
    held.close()
    found = [
        (row["meter"], times.micros(row["timestamp"]), shown([(row["volume"] + 0.0,)])[0],
         times.micros(row["recorded_at"]) - times.micros(MOMENT))
        for part in parts for row in part.to_pylist()
    ]  # fmt: skip
    given_rows = pa.table(
        {
            "line": pa.array(range(len(rows)), pa.int64()),
            "series": pa.array(numbers, pa.int64()),
            "micros": pa.array(micros, pa.int64()),
            "volume": pa.array(volumes, pa.float64()),
            "type": pa.array([kinds[number] for number in numbers], pa.string()),
        }
    )
    expected = [
        (f"s{row['series_id']}", row["micros"], shown([(row["volume"] + 0.0,)])[0], row["place"])
        for row in reference_load.points(given_rows, times.micros(MOMENT))
    ]
    assert sorted(found) == sorted(expected)
    ids = [row["sample_id"] for part in parts for row in part.to_pylist()]
    deltas = [each for each in ids if each is not None]
    assert len(set(deltas)) == len(deltas) == sum(kinds[number] == "delta" for number in numbers)


def test_rows_with_more_combinations_of_texts_than_a_number_holds_keep_their_series(tmp_path: Path) -> None:
    names = ("meter", "resource_id", "unit", "project_id", "user_id", "source")
    lines = [",".join(["2026-11-10", str(n), *(f"{name[0]}{n}" for name in names)]) for n in range(1_200)]
    path = tmp_path / "a.csv"
    path.write_text("\n".join([",".join(["timestamp", "volume", *names]), *lines, lines[7]]))
    samples, letters = read(path)
    assert not letters
    assert len(samples) == 1_201
    assert samples[-1] == samples[7]
    assert all(f"{name[0]}{n}" in row for n, row in enumerate(samples[:-1]) for name in names)


@pytest.mark.parametrize("series", [3, 1 << 16, 200_000])
def test_points_of_any_number_of_series_are_put_in_order_and_equal_ones_stay_in_that_of_the_file(series: int) -> None:
    numbers = np.random.default_rng(series).integers(0, series, 5_000).astype(np.int32)
    numbers[::7] = series - 1
    assert (order_of(numbers, series) == np.argsort(numbers, kind="stable")).all()
