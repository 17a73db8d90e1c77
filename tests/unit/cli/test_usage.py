"""Usage errors: status 2, one that says what is wrong, before any store is opened; and the spans that options mean."""

import re
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import click
import pytest
from builders import at, drop, polled, polling
from command_line import Run, lines, process
from test_formats import commands

from meterhouse import times
from meterhouse.alarms.definitions.files import load as load_alarms
from meterhouse.cli import cli
from meterhouse.cli.queries import sql_command
from meterhouse.errors import UsageError
from meterhouse.queries import reports
from meterhouse.queries.aggregates import AGGREGATES, GROUPS
from meterhouse.recompute import assets
from meterhouse.site import Site
from meterhouse.stores.lake_tables import TABLES
from meterhouse.stores.warehouse_tables import metadata, series

WRONG = [
    ("statistics cpu -q colour eq red", "unknown field 'colour'"),
    ("statistics cpu -q volume gt 9", "unknown field 'volume'"),
    ("statistics cpu -q resource is x", "unknown operator 'is'"),
    ("statistics cpu --groupby meter", "unknown group 'meter'"),
    ("statistics cpu --aggregate median", "unknown aggregate 'median'"),
    ("statistics cpu --period -1", "--period"),
    ("statistics cpu --columns nothing", "unknown column 'nothing'. Known: count, sum"),
    ("statistics cpu --columns ,", "write names of columns"),
    ("samples cpu -q volume gt much", "'much' is not a number"),
    ("samples cpu -q timestamp gt soon", "'soon' is not a time"),
    ("samples cpu --from soon", "'soon' is not a time"),
    ("samples cpu --to -5x", "'-5x' is not a time"),
    ("samples cpu --from -999999999w", "is out of reach"),
    ("samples cpu --limit 0", "--limit"),
    ("samples cpu --json --format json", "give it or --format"),
    ("samples cpu --json --format csv", "give it or --format"),
    ("samples cpu --format xml", "'xml' is not one of 'table', 'json', 'csv', 'value'"),
    ("events -q trait.state eq error", "Did you mean traits.KEY?"),
    ("events --from 2026-11-02 --to 2026-11-01", "the span is empty: --to is not after --from"),
    ("events --from 2026-11-01 --to 2026-11-01", "the span is empty"),
    ("events --from now", "the span is empty: now is not after --from"),
    ("events --from 2200-01-01", "the span is empty: now is not after --from"),
    ("resources -q meters eq cpu", "Did you mean meter?"),
    ("resources list --limit 0", "--limit"),
    ("resources --columns nothing", "unknown column 'nothing'"),
    ("report usage", "Did you mean usage_by_project_and_day, usage_by_project_and_flavor?"),
    ("report usage_by_project_and_day --day yesterday --from -1d", "not both"),
    ("report usage_by_project_and_day --day today --to now", "--to needs a --from"),
    ("report usage_by_project_and_day --to 2026-11-10", "--to needs a --from"),
    ("report usage_by_project_and_day --from -1d --export", "--export takes a --day"),
    ("report usage_by_project_and_day --from -1d --to -2d", "the span is empty"),
    ("report usage_by_project_and_day --day soon", "'soon' is not a day"),
    ("report --export", "need the NAME of a report"),
    ("report --columns nothing", "unknown column 'nothing'. Known: report, exported_by, question"),
    ("archive --day -1d", "'-1d' is not a day"),
    ("backfill rolups --from -1d", "Did you mean rollups?"),
    ("backfill rollups", "--from is needed"),
    ("backfill rollups --to now", "--to needs a --from"),
    ("backfill rollups --from 2026-11-02 --to 2026-11-01", "the span is empty"),
    ("collect --columns nothing", "unknown column 'nothing'. Known: messages"),
    ("collect --max-messages 0", "--max-messages"),
    (f"collect --max-messages {10**30}", "--max-messages"),
    ("collect --max-seconds nan", "nan is not a number"),
    ("collect --max-seconds 1e300", "--max-seconds"),
    ("collect --max-seconds inf", "--max-seconds"),
    (f"statistics cpu --period {10**30}", "--period"),
    ("statistics cpu --period 1e9", "unknown period '1e9'"),
    (f"samples cpu --limit {10**30}", "--limit"),
    ("samples cpu --from 9999-12-31T23:59:59-14:00", "out of reach"),
    ("samples cpu --from 0001-01-01T00:00:00+14:00", "out of reach"),
    ("samples cpu --from -999999999w", "out of reach"),
    ("dead-letters --limit 0", "--limit"),
    ("dead-letters --from -1d --to -2d", "the span is empty"),
    ("dead-letters purge", "give IDs"),
    ("dead-letters purge --from -1d --to -1d", "the span is empty"),
    ("alarms history busy --limit 0", "--limit"),
    ("alarms list --columns nothing", "unknown column 'nothing'"),
    ("doctor --columns nothing", "unknown column 'nothing'"),
    ("sql", "Missing argument"),
    ("frobnicate", "No such command"),
]


@pytest.mark.parametrize(("line", "said"), WRONG, ids=[line for line, _ in WRONG])
def test_wrong_use_is_found_before_a_store_is_opened(
    run: Run, monkeypatch: pytest.MonkeyPatch, line: str, said: str
) -> None:
    def opened(*_: Any) -> Site:
        raise AssertionError("the site was opened")

    monkeypatch.setattr(Site, "open", opened)
    monkeypatch.setattr("meterhouse.doctor.examine", opened)
    result = run(*line.split())
    assert result.exit_code == 2 or isinstance(result.exception, UsageError), result.output
    assert said in re.sub(r"\s+", " ", result.output + str(result.exception))


def test_columns_that_only_the_query_knows_are_checked_after_it(run: Run) -> None:
    for arguments in (["sql", "SELECT 1 AS a WHERE false"], ["sql", "--on", "warehouse", "SELECT 1 AS a"]):
        result = run(*arguments, "--columns", "b")
        assert isinstance(result.exception, UsageError)
        assert "unknown column 'b'. Known: a" in str(result.exception)
    result = run("report", "usage_by_project_and_day", "--columns", "colour")
    assert isinstance(result.exception, UsageError)
    assert "Known: day, project_id" in str(result.exception)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (["statistics", "cpu", "-q", "colour", "eq", "red"], 2),
        (["report", "usage"], 2),
        (["backfill", "rollups"], 2),
        (["sql", "SELECT 1 AS a", "--columns", "b"], 2),
        (["statistics", "cpu"], 1),
        (["alarms", "show", "busy"], 1),
        (["resources", "show", "r1"], 1),
        (["load", "nowhere.csv"], 1),
        (["report"], 0),
    ],
)
def test_the_program_ends_with_the_status_and_without_a_traceback(
    tmp_path: Path, arguments: list[str], status: int
) -> None:
    done = process(tmp_path, *arguments)
    assert (done.returncode, "Traceback" in done.stderr) == (status, False)
    assert bool(done.stderr) == bool(status)


def test_an_error_has_no_say_on_the_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from meterhouse import cli as command_line

    monkeypatch.setattr("sys.argv", ["meterhouse", "report", "\x1b[2J"])
    with pytest.raises(SystemExit) as ended:
        command_line.main()
    assert ended.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith(r"meterhouse: unknown report '\x1b[2J'")
    assert said.rstrip("\n").isprintable()


def test_a_log_line_and_a_usage_error_have_no_say_on_the_terminal_either(tmp_path: Path) -> None:
    (tmp_path / "spool").mkdir(parents=True)
    (tmp_path / "spool" / "\x1b[2J\n.jsonl").symlink_to("nowhere")
    for arguments in (["collect"], ["statistics", "cpu", "--from", "\x1b[2J"], ["samples", "cpu", "--\x1b[2J"]):
        done = process(tmp_path, *arguments)
        assert done.stderr.isascii()
        assert done.stderr.replace("\n", "").isprintable()


# -- spans ----------------------------------------------------------------------------------------------------

NOW = at(days=2)


@pytest.fixture
def polls(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Points at noon of the day before yesterday, yesterday and today, and one in an hour's time. It is noon."""
    batch = [polled(float(n), at(days=n)) for n in range(3)]
    drop(tmp_path / "spool", "a.jsonl", [polling("b1", [*batch, polled(9.0, NOW + timedelta(hours=1))])])
    monkeypatch.setattr(times, "now", lambda: NOW + timedelta(seconds=1))
    assert run("collect").exit_code == 0
    assert run("rollup").exit_code == 0
    return run


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ("", [0, 1, 2, 9]),
        ("--from -1d", [2]),
        ("--from -25h", [1, 2]),
        ("--from=-25h --to=-1d", [1]),
        ("--from yesterday", [1, 2]),
        ("--from yesterday --to today", [1]),
        ("--to -1h", [0, 1]),
        ("--from -1h --to 2200-01-01", [2, 9]),
        ("--from 2026-11-10T12:00:00Z --to now", [0, 1, 2]),
        ("-q volume gt -1 -q volume lt 2", [0, 1]),
        ("-q timestamp ge -1d", [2, 9]),
    ],
)
def test_spans_are_given_as_times_and_end_now_by_default(polls: Run, options: str, wanted: list[float]) -> None:
    found = lines(polls("samples", "cpu_util", *options.split(), "--json"))
    assert sorted(row["volume"] for row in found) == wanted


def test_from_alone_means_until_now_everywhere(polls: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    (found,) = lines(polls("statistics", "cpu_util", "--from", "-25h", "--json"))
    assert (found["count"], found["max"]) == (2, 2)
    assert lines(polls("backfill", "rollups", "--from", "yesterday", "--json"))[0]["hours"] == 2
    seen: list[tuple[datetime, datetime]] = []

    def columns(_: Site, name: str, start: datetime, end: datetime) -> dict[str, list[Any]]:
        seen.append((start, end))
        return {name: []}

    monkeypatch.setattr(reports, "columns", columns)
    name = "usage_by_project_and_day"
    for options in ("--from yesterday", "--from -2d --to -1d", "--day yesterday", "--day 2026-11-10", ""):
        assert polls("report", name, *options.split()).exit_code == 0
    midnight = times.day_start(NOW.date())
    assert seen == [
        (midnight - times.DAY, times.now()),
        (times.now() - 2 * times.DAY, times.now() - times.DAY),
        (midnight - times.DAY, midnight),
        (midnight - 2 * times.DAY, midnight - times.DAY),
        (midnight - times.DAY, midnight),
    ]


def test_every_span_and_limit_of_a_command_is_one_of_these_options() -> None:
    for path, command in commands(cli):
        options = {parameter.name: parameter for parameter in command.params if isinstance(parameter, click.Option)}
        assert ("start" in options) == ("end" in options), path
        if "limit" in options:
            assert options["limit"].help == "Maximum number of rows."


# -- names ----------------------------------------------------------------------------------------------------


def test_an_unknown_name_of_data_says_what_is_near(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert str(run("resources", "show", "r9").exception) == "unknown resource 'r9'. `meterhouse resources` lists them"
    (tmp_path / "alarms.yaml").write_text(
        "alarms:\n  - {name: disk-full, threshold_rule: {meter_name: m, threshold: 1}}\n"
        "  - {name: web-disk, threshold_rule: {meter_name: m, threshold: 1}}\n"
    )
    monkeypatch.setenv("METERHOUSE_CONFIG_DIR", str(tmp_path))
    assert len(load_alarms(tmp_path)) == 2
    names = ["11aa-1", "11aa-2", "22bb-1"]
    samples = [
        polled(1.0, at(1), meter="cpu_util"),
        *(polled(1.0, at(1), resource=name, meter="cpu") for name in names),
    ]
    drop(tmp_path / "spool", "a.jsonl", [polling("b1", samples)])
    for command in (["collect"], ["alarms", "apply"]):
        assert run(*command).exit_code == 0
    assert str(run("resources", "show", "11").exception) == "unknown resource '11'. Did you mean 11aa-1, 11aa-2?"
    assert str(run("resources", "show", "bb").exception) == "unknown resource 'bb'. Did you mean 22bb-1?"
    assert str(run("alarms", "show", "disk").exception) == "unknown alarm 'disk'. Did you mean disk-full, web-disk?"
    assert str(run("samples", "cp").exception) == "unknown meter 'cp'. Did you mean cpu, cpu_util?"


def test_the_help_of_sql_lists_the_tables_there_are() -> None:
    listed = (sql_command.help or "").partition("Lake:")[2]
    lake, _, warehouse = listed.partition("Warehouse:")
    assert lake.split() == list(TABLES)
    assert sorted(warehouse.split()) == sorted(metadata.tables)


def test_groups_are_columns_of_series_and_assets_are_known_to_the_backfill() -> None:
    assert set(GROUPS) <= set(series.c.keys())
    assert len(set(AGGREGATES)) == len(AGGREGATES)
    assert set(reports.names()) < set(assets())
