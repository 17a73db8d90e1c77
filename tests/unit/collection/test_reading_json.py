"""Samples in lines of JSON: blocks that are decoded at once have the rows that they have line by line."""

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import OpenSite
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from meterhouse.collection import json_files
from meterhouse.collection.json_files import read_json
from meterhouse.collection.judged_rows import judge
from meterhouse.collection.load import load
from meterhouse.collection.sample_rows import SampleRows
from meterhouse.stream.files import numbered_lines

LONGEST = 400
FIRST = b'{"timestamp": "2026-11-10T12:00:00Z", "volume": 1, "meter": "m"}'

TIMES = st.sampled_from(
    [*["2026-11-10T12:00:00Z"] * 9, "2026-11-10T12:00:01", "2026-11-10 12:00+02:00", "soon", "", None, 1_794_312_000]
)
VOLUMES = st.one_of(
    st.floats(),
    st.integers(-(2**70), 2**70),
    st.sampled_from([*[1.5] * 9, "2", "many", None, True, [1]]),
)
TEXTS = st.sampled_from([*["a", "b"] * 5, None, "", " é ", "\0", "\ud800", "NULL", 7, 1.5, {"a": 1}])
ROWS = st.fixed_dictionaries(
    {"timestamp": TIMES, "volume": VOLUMES, "meter": TEXTS},
    optional={
        "unit": TEXTS,
        "type": st.sampled_from(["gauge", "Delta", "odd"]),
        "value": VOLUMES,
        "resource_metadata": st.sampled_from([{"a": [1, {"b": None}]}, {}, None, "x", [[[[1]]]]]),
        "vlaue": st.just(1),
        "event_type": st.just("e"),
    },
)
USUAL = st.builds(
    lambda second, volume, meter: {"timestamp": f"2026-11-10T12:00:{second:02}Z", "volume": volume, "meter": meter},
    st.integers(0, 59),
    st.integers(-5, 5) | st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from(["m", "n"]),
)
ODD = st.sampled_from(
    [
        *[b"", b"  ", b"x", b"[1]", b'{"volume":1', FIRST + b" ", b" " + FIRST, FIRST + FIRST, FIRST + b" x", b"{}"],
        *[b'{"volume":1}\r', b'{"volume":NaN,"timestamp":"2026-11-10"}', b'{"volume":1e999}', b'{"a":"\xff"}', b"}{"],
        *[b'{"meter":"' + b"z" * LONGEST + b'"}', b'{"volume":1,\n"meter":"x"}', b'{"volume":1,"volume":2}'],
    ]
)
LINES = st.lists(ROWS.map(lambda row: json.dumps(row).encode()) | USUAL.map(lambda row: json.dumps(row).encode()) | ODD)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small blocks."""
    monkeypatch.setattr(json_files, "BLOCK_BYTES", 500)
    monkeypatch.setattr(json_files, "LINES_BYTES", 100)


def found(path: Path, pieces: list[SampleRows]) -> tuple[list[str], set[tuple[str, str, bytes]]]:
    """The samples of pieces, and what is none."""
    samples, letters = list[str](), set[tuple[str, str, bytes]]()
    for piece in pieces:
        judged = judge(piece, path, meter_needed=False)
        letters |= {(raw.queue, raw.fault, raw.body) for raw in judged.letters}
        columns = [[texts[code] for code in codes.tolist()] for texts, codes in judged.series.values()]
        series = list(zip(*columns, strict=True))
        rows = zip(judged.codes.tolist(), judged.micros.tolist(), judged.volumes.tolist(), strict=True)
        samples += [repr((series[code], micros, volume)) for code, micros, volume in rows]
    return samples, letters


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(lines=LINES, closed=st.booleans())
@example(lines=[FIRST + FIRST, b""], closed=True)
@example(lines=[FIRST + b"\r"] * 9, closed=False)
def test_blocks_have_the_rows_that_they_have_line_by_line(
    small: None, tmp_path: Path, lines: list[bytes], closed: bool
) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"\n".join([FIRST, *lines]) + (b"\n" if closed else b""))
    shares: list[float] = []
    begin = read_json(path, LONGEST, shares.append)
    assert begin is not None
    samples, letters = found(path, [piece for part in begin() for piece in part()])
    by_line = json_files._rows_of_lines(path, LONGEST, numbered_lines(path, LONGEST, json_files._opened))
    assert (samples, letters) == found(path, by_line)
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


def test_usual_lines_are_not_read_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = {"timestamp": "2026-11-10T12:00:00Z", "counter_name": "m", "counter_volume": 1.5, "resource_metadata": {}}
    other = {**row, "counter_unit": "B", "counter_volume": 2}
    path = tmp_path / "a.jsonl"
    path.write_text("".join(json.dumps(each) + "\n" for each in [row, other] * 500))
    begin = read_json(path, LONGEST)
    assert begin is not None
    monkeypatch.delattr(json_files, "_rows_of_lines")
    (piece,) = [piece for part in begin() for piece in part()]
    assert piece.rows.num_rows == 1_000
    assert piece.rows["volume"].to_pylist() == [1.5, 2.0] * 500
    assert piece.columns == {"timestamp", "meter", "volume", "unit"}


def test_progress_counts_bytes_within_a_file(
    open_site: OpenSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(json_files, "BLOCK_BYTES", 2_000)
    site, told = open_site(), list[tuple[int, int]]()
    moments = np.datetime_as_string(np.datetime64("2026-11-10T00:00:00") + np.arange(100))
    lines = [json.dumps({"timestamp": f"{moment}Z", "volume": 1, "meter": "m"}) for moment in moments]
    paths = [tmp_path / "a.jsonl", tmp_path / "b.csv", tmp_path / "none.csv"]
    paths[0].write_text("\n".join(lines))
    paths[1].write_text("timestamp,volume\n2026-11-10T00:00:00Z,1\n")
    done = load(site, paths, progress=lambda reached, total: told.append((reached, total)))
    assert (done.files, done.samples) == (2, 101)
    sizes = [path.stat().st_size for path in paths[:2]]
    assert {total for _, total in told} == {sum(sizes)}
    reached = [each for each, _ in told]
    assert reached == sorted(reached)
    assert reached[-1] == sum(sizes)
    assert len({each for each in reached if each < sizes[0]}) >= 3
