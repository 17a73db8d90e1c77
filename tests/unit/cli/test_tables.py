"""Tables: they fit a terminal, cell by cell, and what is in them cannot control it."""

from datetime import datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meterhouse.cli.tables import GAP, Column, cells, fit, lines, shortened, wrapped
from meterhouse.untrusted import printable


@pytest.mark.parametrize(
    ("text", "width"),
    [
        ("", 0),
        ("abc", 3),
        ("é", 1),
        ("e\N{COMBINING ACUTE ACCENT}", 1),
        ("データ", 6),
        ("ﾃﾞ", 2),
        ("a\N{ROCKET}b", 4),
        ("…", 1),
        ("한국", 4),
    ],
)
def test_cells_are_those_of_a_terminal(text: str, width: int) -> None:
    assert cells(text) == width


@pytest.mark.parametrize(
    ("text", "width", "wanted"),
    [
        ("abcdef", 6, "abcdef"),
        ("abcdef", 5, "abcd…"),
        ("abcdef", 1, "…"),
        ("データベース", 6, "デー…"),
        ("データ", 5, "デー…"),
    ],
)
def test_a_shortened_text_says_so(text: str, width: int, wanted: str) -> None:
    assert shortened(text, width) == wanted


def test_what_controls_a_terminal_is_escaped() -> None:
    assert printable("a\x1b[2Jb\x9b31m\r\n\t\x7f") == r"a\x1b[2Jb\x9b31m\r\n\t\x7f"
    assert printable("\N{RIGHT-TO-LEFT OVERRIDE}x\ud800") == r"\u202ex\ud800"
    assert printable("データ é \N{ROCKET}") == "データ é \N{ROCKET}"


def test_narrow_columns_stay_whole_and_the_widest_are_shortened() -> None:
    columns = [
        Column("id", ["x" * 36]),
        Column("type", ["gauge"]),
        Column("text", ["y" * 200]),
        Column("n", ["5"], "number"),
    ]
    assert fit(columns, 300) == [36, 5, 200, 1]
    widths = fit(columns, 80)
    assert (widths[1], widths[3]) == (5, 1)
    assert sum(widths) + 3 * GAP == 80
    assert abs(widths[0] - widths[2]) <= 1


def test_numbers_ids_and_the_minutes_of_times_are_never_cut() -> None:
    moment = datetime(2026, 11, 10, 12, 30, 15, 999).isoformat() + "Z"
    columns = [
        Column("when", [moment], "time"),
        Column("id", ["0123456789abcdef"], "whole"),
        Column("volume", ["123456789.5"], "number"),
        Column("text", ["y" * 99]),
    ]
    made, left_out = lines(columns, 58)
    assert left_out == []
    assert made[1] == "2026-11-10T12:30…  0123456789abcdef  123456789.5  yyyyyyy…"


def test_columns_for_which_there_is_no_room_are_named() -> None:
    columns = [Column(f"column_{n}", ["z" * 20]) for n in range(10)]
    made, left_out = lines(columns, 40)
    assert left_out == [f"column_{n}" for n in range(4, 10)]
    assert made == [
        "column_0   column_1   column_2  column_3",
        "zzzzzzzz…  zzzzzzzz…  zzzzzzz…  zzzzzzz…",
    ]
    assert lines(columns, None)[1] == []
    assert lines(columns, 1) == (["…", "…"], [f"column_{n}" for n in range(1, 10)])


def test_prose_is_wrapped_between_words() -> None:
    assert wrapped("the disk of the warehouse is full", 12) == ["the disk of", "the", "warehouse is", "full"]
    assert wrapped("x" * 10, 4) == ["xxxx", "xxxx", "xx"]
    assert wrapped("", 4) == [""]
    made, _ = lines([Column("part", ["lake", "x"]), Column("finding", ["one two three four", "ok"], "prose")], 20)
    assert made == ["part  finding", "lake  one two three", "      four", "x     ok"]


@given(
    st.lists(st.lists(st.text(max_size=60), min_size=3, max_size=3), min_size=1, max_size=8),
    st.lists(st.sampled_from(["text", "number", "time", "whole", "prose"]), min_size=3, max_size=3),
    st.integers(1, 100),
)
@settings(max_examples=50)
def test_no_line_is_wider_than_the_terminal(rows: list[list[str]], kinds: list[Any], room: int) -> None:
    columns = [Column(f"column {n}", [printable(row[n]) for row in rows], kind) for n, kind in enumerate(kinds)]
    made, left_out = lines(columns, room)
    assert all(cells(line) <= max(room, 2) for line in made)  # a wide character needs two cells
    assert all(line.isprintable() for line in made)
    assert len(left_out) < len(columns)
    assert len(made) > len(rows)
