"""Formats: tables for people, JSON, CSV and bare values for programs, of every command that prints rows or figures."""

import csv
import io
import json
import sys
from collections.abc import Iterator
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import click
import pytest
from builders import NOON, at, drop, enveloped, notification, polled, polling
from command_line import PROGRAM, Run, lines, on_terminal

from meterhouse.cli import cli
from meterhouse.cli.output import Printer
from meterhouse.cli.tables import cells
from meterhouse.errors import UsageError
from meterhouse.untrusted import csv_cell

HOSTILE = "p\x1b[2J\u202e\n"

ROWS: list[dict[str, Any]] = [
    {"name": "a", "n": 1.5, "when": NOON, "tags": ["x", "y"], "more": {"k": "v"}, "on": True},
    {"name": HOSTILE, "n": None, "when": None, "tags": [], "more": {"k": {"l": 1}}, "on": False},
]


@pytest.fixture
def terminal(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """Make standard output a terminal of a width."""

    def make(width: int) -> None:
        monkeypatch.setenv("COLUMNS", str(width))
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True)

    return make


# -- what is printed ------------------------------------------------------------------------------------------


def test_json_lines_are_objects_with_their_structure(capsys: pytest.CaptureFixture[str]) -> None:
    Printer("lines").rows(ROWS)
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert first == {
        "name": "a",
        "n": 1.5,
        "when": "2026-11-10T12:00:00Z",
        "tags": ["x", "y"],
        "more": {"k": "v"},
        "on": True,
    }
    assert second["name"] == HOSTILE


def test_json_is_one_array(capsys: pytest.CaptureFixture[str]) -> None:
    for count in range(3):
        Printer("json").rows(ROWS[:count], ["name"])
        assert len(json.loads(capsys.readouterr().out)) == count
    Printer("json").figures("done", {"n": 1})
    assert json.loads(capsys.readouterr().out) == [{"n": 1}]


def test_csv_has_a_header_and_whole_values(capsys: pytest.CaptureFixture[str]) -> None:
    Printer("csv").rows([{**ROWS[0], "n": 1 / 3, "text": 'say "a,b"\nc'}, ROWS[1]])
    printed = capsys.readouterr().out
    found = list(csv.DictReader(io.StringIO(printed)))
    assert "\r" not in printed
    assert [float(found[0]["n"]), found[1]["n"]] == [1 / 3, ""]
    assert (found[0]["text"], found[0]["more"], found[0]["on"]) == ('say "a,b"\nc', '{"k": "v"}', "true")
    assert found[1]["name"] == csv_cell(HOSTILE)


@pytest.mark.parametrize(
    "text", ["=1+1", "+cmd", "-cmd|' /C calc'!A0", "@SUM(A1)", "\t=1", "\r=1", "--1", "+1-1", "\uff1d1+1"]
)
def test_a_spreadsheet_runs_no_cell_of_csv(capsys: pytest.CaptureFixture[str], text: str) -> None:
    Printer("csv").rows([{"a": text, text: "x"}])
    header, row = csv.reader(io.StringIO(capsys.readouterr().out, newline=""))
    safe = "'" + text.replace("\r", "\\r")
    assert (header, row) == (["a", safe], [safe, "x"])


@pytest.mark.parametrize("format", ["table", "csv", "value", "json", "lines"])
def test_no_value_has_a_say_on_a_terminal_behind_a_pipe(capsys: pytest.CaptureFixture[str], format: str) -> None:
    text = "a\x1b[2J\x9b2J\x7f\r\u202eb\u2066"
    Printer(format).rows([{"name": text, "deep": {text: [text]}}])
    printed = capsys.readouterr().out
    assert not set(printed) & set(text[1:]) - set("[2Jb")
    if format in ("json", "lines"):
        found = json.loads(printed)
        assert (found[0] if format == "json" else found) == {"name": text, "deep": {text: [text]}}


@pytest.mark.parametrize("value", [-5, -1.5, "-5", "+1.5e3", Decimal("-2")])
def test_a_negative_number_of_csv_stays_one(capsys: pytest.CaptureFixture[str], value: Any) -> None:
    Printer("csv").rows([{"a": value}])
    assert float(capsys.readouterr().out.splitlines()[1]) == float(value)


def test_values_are_separated_by_tabs_one_line_a_row(capsys: pytest.CaptureFixture[str]) -> None:
    Printer("value").rows([{"a": "x\ty\nz", "b": None, "c": 1 / 3}, {"a": "", "b": False, "c": 2}])
    assert capsys.readouterr().out == f"x\\ty\\nz\t\t{1 / 3}\n\tfalse\t2\n"


def test_a_table_has_plain_cells_and_numbers_to_the_right(capsys: pytest.CaptureFixture[str]) -> None:
    Printer("table").rows(ROWS)
    assert capsys.readouterr().out.splitlines() == [
        r"name                n  when                  tags  more             on",
        r"a                 1.5  2026-11-10T12:00:00Z  x, y  k=v              true",
        r'p\x1b[2J\u202e\n                                   {"k": {"l": 1}}  false',
    ]


def test_figures_are_a_list_with_those_within_below(capsys: pytest.CaptureFixture[str]) -> None:
    found = {"points_judged": 3, "flagged": {"out_of_range": 2}, "query": [{"field": "a", "op": "eq"}], "none": {}}
    Printer("table").figures(HOSTILE, found)
    assert capsys.readouterr().out.splitlines() == [
        r"p\x1b[2J\u202e\n",
        "  points judged  3",
        "  flagged",
        "    out_of_range  2",
        "  query",
        "    field  op",
        "    a      eq",
        "  none",
    ]
    Printer("lines").figures("done", found)
    assert json.loads(capsys.readouterr().out) == found
    Printer("csv").figures("done", {"a": 1, "b": "x"})
    assert capsys.readouterr().out == "a,b\n1,x\n"


def test_nothing_is_said_in_the_way_of_the_format(capsys: pytest.CaptureFixture[str]) -> None:
    said = {}
    for format in ("table", "json", "lines", "csv", "value"):
        Printer(format, known=("a", "b")).rows([])
        said[format] = capsys.readouterr()
    assert {format: each.out for format, each in said.items()} == {
        "table": "",
        "json": "[]\n",
        "lines": "",
        "csv": "a,b\n",
        "value": "",
    }
    assert {format: each.err for format, each in said.items() if each.err} == {"table": "nothing found\n"}


@pytest.mark.parametrize("format", ["table", "json", "lines", "csv", "value"])
def test_columns_are_those_chosen_in_their_order(capsys: pytest.CaptureFixture[str], format: str) -> None:
    Printer(format, known=("a", "b", "c"), chosen=("c", "a")).rows([{"a": 1, "b": 2, "c": 3}])
    assert (
        capsys.readouterr().out.split()
        == {
            "table": ["c", "a", "3", "1"],
            "json": ['[{"c":', "3,", '"a":', "1}]"],
            "lines": ['{"c":', "3,", '"a":', "1}"],
            "csv": ["c,a", "3,1"],
            "value": ["3", "1"],
        }[format]
    )


def test_an_unknown_column_names_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"--columns: unknown column 'x'\. Known: a, b"):
        Printer("table", chosen=("a", "x")).rows([{"a": 1, "b": 2}])
    with pytest.raises(UsageError, match=r"unknown column 'x'\. Known: a"):
        Printer("json", known=("a",), chosen=("x",)).rows([])


# -- on a terminal --------------------------------------------------------------------------------------------


def test_a_table_fits_the_terminal_and_is_whole_if_wide(capsys: pytest.CaptureFixture[str], terminal: Any) -> None:
    terminal(60)
    found = [{"id": "データ" * 10, "n": 123456789, "day": date(2026, 11, 10), "text": "x" * 100}]
    Printer("table").rows(found)
    printed = capsys.readouterr().out
    assert max(map(cells, printed.splitlines())) <= 60
    assert "123456789" in printed
    assert "2026-11-10" in printed
    assert printed.count("…") == 2
    Printer("table", wide=True).rows(found)
    assert "x" * 100 in capsys.readouterr().out


def test_columns_that_are_left_out_are_named_on_standard_error(
    capsys: pytest.CaptureFixture[str], terminal: Any
) -> None:
    terminal(20)
    found = [{f"c{n}": "x" * 9 for n in range(4)}]
    Printer("table").rows(found)
    printed = capsys.readouterr()
    assert printed.err == "2 columns do not fit: c2, c3. --wide shows all, --columns those that you name\n"
    Printer("table", chosen=("c3",)).rows(found)
    assert capsys.readouterr() == ("c3\nxxxxxxxxx\n", "")
    Printer("table").figures("done", {"rows": found})
    assert "3 columns do not fit: c1, c2, c3" in capsys.readouterr().err


def test_in_a_pipe_a_table_is_whole_whatever_the_environment_says(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    Printer("table").rows([{"a": "x" * 100, "b": "y" * 100}])
    assert capsys.readouterr().out.splitlines()[1] == "x" * 100 + "  " + "y" * 100


@pytest.mark.parametrize("format", ["table", "csv", "value"])
def test_no_value_has_a_say_on_the_terminal(capsys: pytest.CaptureFixture[str], terminal: Any, format: str) -> None:
    terminal(200)
    Printer(format).rows([{HOSTILE: HOSTILE, "deep": {HOSTILE: [HOSTILE]}}])
    assert all(line.isprintable() for line in capsys.readouterr().out.replace("\t", "").splitlines())


@pytest.mark.slow
def test_the_program_knows_the_width_of_its_terminal(tmp_path: Path) -> None:
    wide = on_terminal([PROGRAM, "settings"], 150, METERHOUSE_HOME=str(tmp_path))
    narrow = on_terminal([PROGRAM, "settings"], 60, METERHOUSE_HOME=str(tmp_path))
    assert max(map(len, wide.splitlines())) in range(100, 151)
    assert max(map(len, narrow.splitlines())) <= 60


# -- of every command -----------------------------------------------------------------------------------------


def commands(group: click.Group, *path: str) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, *path, name)
        else:
            yield (*path, name), command


PLAIN = {("convert",), ("demo",), ("migrate",)}
"""They print no rows and no figures."""


def test_every_command_that_prints_rows_or_figures_has_all_formats() -> None:
    for path, command in commands(cli):
        options = {name for parameter in command.params for name in parameter.opts}
        assert ({"--format", "--json", "--columns", "--wide"} <= options) == (path not in PLAIN), path


ALARMS = "alarms:\n  - {name: busy, threshold_rule: {meter_name: cpu_util, threshold: 1, comparison_operator: gt}}\n"

CALLS: dict[tuple[str, ...], list[str]] = {
    ("alarms", "history"): ["busy"],
    ("alarms", "show"): ["busy"],
    ("backfill",): ["rollups", "--from", "2026-11-10"],
    ("dead-letters", "purge"): ["--all", "--dry-run"],
    ("dead-letters", "retry"): ["--all"],
    ("resources", "show"): ["r1"],
    ("samples",): ["cpu_util"],
    ("statistics",): ["cpu_util", "--groupby", "project_id", *(f"--aggregate={n}" for n in ("count", "avg", "stddev"))],
}
"""What the commands need; the others are called as they are."""

DECIDED_BY_THE_QUERY = {("report",), ("sql",)}

BRANCHES = {("statistics",), ("backfill",), ("dead-letters", "list")}
"""Which of their columns there are depends on the options, or on the row."""


@pytest.fixture
def filled(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    (tmp_path / "alarms.yaml").write_text(ALARMS)
    monkeypatch.setenv("METERHOUSE_CONFIG_DIR", str(tmp_path))
    batch = polling("b1", [polled(10.0, at(1), project=HOSTILE), polled(150.0, at(2))])
    drop(tmp_path / "spool", "a.jsonl", [batch, enveloped(notification("n1")), b"junk"])
    for command in (["collect"], ["rollup"], ["alarms", "apply"]):
        assert run(*command).exit_code == 0
    return run


@pytest.mark.slow
def test_every_command_declares_the_columns_that_it_prints(filled: Run, tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("- event_type: x\n  traits: {a: 5}\n")
    csv_file = tmp_path / "one.csv"
    csv_file.write_text("timestamp,value\n2026-11-10,1\n")
    calls = {**CALLS, ("load",): [str(csv_file)], ("definitions", "check"): [str(tmp_path / "bad.yaml")]}
    for path, _ in commands(cli):
        if path in PLAIN | DECIDED_BY_THE_QUERY:
            continue
        given = calls.get(path, [])
        result = filled(*path, *given, "--json")
        assert result.exit_code in (0, 1), result.output
        refused = filled(*path, *given, "--columns", "no_such_column")
        known = str(refused.exception).partition("Known: ")[2].split(", ")
        assert len(known) > 1, path
        for line in result.stdout.splitlines():
            found = list(json.loads(line))
            assert set(found) <= set(known) if path in BRANCHES else found == known, path


@pytest.mark.slow
def test_every_command_prints_every_format(filled: Run, tmp_path: Path) -> None:
    csv_file = tmp_path / "one.csv"
    csv_file.write_text("timestamp,value\n2026-11-10,1\n")
    calls = {**CALLS, ("load",): [str(csv_file)], ("sql",): ["SELECT project_id, '=1' AS f FROM samples"]}
    for path, _ in commands(cli):
        if path in PLAIN or path == ("definitions", "check"):
            continue
        given = calls.get(path, [])
        assert isinstance(json.loads(filled(*path, *given, "--format", "json").stdout), list), path
        text = filled(*path, *given, "--format", "csv").stdout
        header, *rows = csv.reader(io.StringIO(text, newline=""))
        assert all(len(row) == len(header) for row in rows), path
        assert len(header) > 1, path
        for format in ("table", "value"):
            printed = filled(*path, *given, "--format", format)
            assert printed.exit_code == 0, path
            assert all(line.isprintable() for line in printed.stdout.replace("\t", " ").splitlines()), path


def test_groups_are_columns_of_statistics_but_in_json(filled: Run) -> None:
    arguments = ("statistics", "cpu_util", "--groupby", "project_id", "--include-excluded", "--aggregate", "count")
    assert {row["groupby"]["project_id"] for row in lines(filled(*arguments, "--json"))} == {HOSTILE, "p1"}
    found = filled(*arguments, "--format", "value", "--columns", "project_id,count").stdout.splitlines()
    assert sorted(found) == ["p1\t1", "p\\x1b[2J\\u202e\\n\t1"]
    assert {"project_id": "p1", "count": 1} in lines(filled(*arguments, "--json", "--columns", "project_id,count"))


def test_metadata_is_a_column_of_resources_if_it_is_chosen(filled: Run) -> None:
    assert "metadata" not in filled("resources").stdout
    assert filled("resources", "--columns", "metadata", "--format", "value").stdout == '{"host": "h1"}\n'
    assert "host=h1" in filled("resources", "--columns", "resource_id,metadata").stdout
