"""A site's own reports: SQL files that become reports, can only read, and name what is wrong with them."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from builders import at
from conftest import OpenSite
from period_rows import put_period

from meterhouse import times
from meterhouse.errors import DefinitionError
from meterhouse.queries import report_files, reports
from meterhouse.site import Site
from meterhouse.stores.warehouse_tables import resource_periods

SPAN = at(), at(hours=1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "reports").mkdir()
    return tmp_path


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.service)])
def own_site(request: pytest.FixtureRequest, open_site: OpenSite, folder: Path) -> Site:
    url = request.getfixturevalue("postgres_warehouse") if request.param == "postgres" else ""
    return open_site(warehouse_url=url, config_dir=folder)


def write(folder: Path, text: str, name: str = "own") -> None:
    (folder / "reports" / f"{name}.sql").write_text(text)


def test_a_file_in_the_configuration_folder_is_a_report(own_site: Site, folder: Path) -> None:
    write(
        folder,
        "-- Who has instances?\n-- partition: month\n-- 100 % of them, :ok\n"
        "SELECT project_id, count(*) AS instances, ':start; 5 %' AS text, min(started_at) AS first_at,\n"
        "  sum(epoch_us(:end) - epoch_us(:start)) / 3600000000 AS hours\n"
        "FROM resource_periods WHERE started_at < :end GROUP BY project_id;\n",
    )
    put_period(own_site, "i1")
    assert "own" in reports.names(folder)
    found = reports.report(own_site, "own")
    assert (found.question, found.partition, found.description) == (
        "Who has instances?",
        "month",
        ["100 % of them, :ok"],
    )
    row = {"project_id": "p1", "instances": 1, "text": ":start; 5 %", "first_at": at(), "hours": 1}
    assert reports.run(own_site, "own", *SPAN) == [row]


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("SELECT 1", 1, "the first line has to be the question"),
        ("", 1, "the first line has to be the question"),
        ("-- Q?\n", 1, "the file has no query"),
        ("-- Q?\nDELETE FROM runs", 2, "a report only reads"),
        ("-- Q?\n\n/* all */ PRAGMA query_only = OFF", 3, "a report only reads"),
        ("-- Q?\nSELECT 1;\nDROP TABLE runs", 3, "a report is one statement"),
        ("-- Q?\n-- partition: week\nSELECT 1", 2, "partition is day or month, not 'week'"),
        ("-- Q?\nSELECT 1\nWHERE 1 < :begin", 3, "unknown parameter :begin; there are :start, :end"),
    ],
)
def test_a_file_that_cannot_be_a_report_is_named_with_line_and_reason(
    folder: Path, text: str, line: int, reason: str
) -> None:
    write(folder, text)
    write(folder, "-- Is this one fine?\nSELECT 1 AS one", "fine")
    listed = report_files.listed(folder)
    assert listed["fine"].fault is None
    with pytest.raises(DefinitionError) as error:
        listed["own"].checked()
    assert str(error.value).startswith(f"{folder}/reports/own.sql:{line}: {reason}")


@pytest.mark.parametrize("name", ["lateness", "archive", "Idle", "a-b", "1st"])
def test_a_name_that_is_taken_or_no_name_is_refused(folder: Path, name: str) -> None:
    write(folder, "-- Q?\nSELECT 1", name)
    ours = report_files.ours()
    faulty = {key: each for key, each in report_files.listed(folder).items() if each.fault}
    assert [each.name for each in faulty.values()] == [name]
    assert all(report_files.listed(folder)[key].query == report.query for key, report in ours.items())


def test_what_cannot_be_read_is_named(folder: Path) -> None:
    (folder / "reports" / "bad.sql").write_bytes(b"-- \xff\nSELECT 1")
    (folder / "reports" / "is_folder.sql").mkdir()
    faults = {name: each.fault[1] for name, each in report_files.listed(folder).items() if each.fault}
    assert faults == {"bad": "the file is not UTF-8", "is_folder": "the file cannot be read: Is a directory"}
    assert reports.names(folder / "nothing") == reports.names()


def test_a_query_that_the_database_does_not_take_is_named_with_its_file(own_site: Site, folder: Path) -> None:
    write(folder, "-- Q?\nSELECT nothing FROM resource_periods")
    with pytest.raises(DefinitionError, match=rf"^{folder}/reports/own\.sql: .*nothing"):
        reports.run(own_site, "own", *SPAN)


WRITING = [
    "WITH gone AS (DELETE FROM resource_periods RETURNING resource_id) SELECT * FROM gone",
    "SELECT set_config('transaction_read_only', 'off', false), lo_create(0)",
    "SELECT writefile('/tmp/meterhouse-report', 'x')",
    "SELECT load_extension('x')",
    "SELECT pg_read_file('/etc/hostname') FROM nowhere",
    "SELECT 1 AS x INTO resource_periods_2",
]


@pytest.mark.parametrize("query", WRITING)
def test_a_report_only_reads(own_site: Site, folder: Path, query: str) -> None:
    put_period(own_site, "i1")
    write(folder, f"-- Q?\n{query}")
    with pytest.raises(DefinitionError, match=r"own\.sql: "):
        reports.run(own_site, "own", *SPAN)
    with own_site.warehouse.read() as connection:
        assert len(connection.execute(resource_periods.select()).all()) == 1


def test_tables_of_a_query_are_those_that_it_names_outside_texts_and_comments() -> None:
    from meterhouse.queries.export_states import tables_of

    query = "-- Q?\n-- rollup_1d\nSELECT 'alarms' FROM \"resource_periods\" JOIN Series USING (resource_id) /* runs */"
    assert tables_of(report_files.Report("own", query)) == {"resource_periods", "series"}


def test_parameters_are_those_that_a_query_names_outside_texts_and_comments() -> None:
    query = "-- at :end\nSELECT ':before', started_at::text, \":days_to\" /* :days_from */ FROM x WHERE a > :start"
    assert report_files.Report("own", query).parameters == {"start"}
    assert report_files.Report("own", "-- Q?\nSELECT :started_at").parameters == {"started_at"}
    for name, report in report_files.ours().items():
        assert report.parameters <= set(report_files.PARAMETERS), name


def test_a_report_of_ours_may_have_colons_in_texts_and_comments(any_warehouse: Site) -> None:
    query = (
        "-- of :end_at, :end\nSELECT ':start' AS text, '100 % :nothing' AS more, epoch_us(:start) AS us /* :start */"
    )
    names, rows = reports._trusted(any_warehouse, query, reports.parameters(*SPAN))
    assert (names, rows) == (["text", "more", "us"], [(":start", "100 % :nothing", times.micros(at()))])


def test_the_span_before_is_as_long_and_starts_in_the_year_1_at_the_earliest() -> None:
    assert report_files.before(at(), at(hours=3)) == at(hours=-3)
    first = datetime(1, 1, 2, tzinfo=UTC)
    assert report_files.before(first, first.replace(month=2)) == datetime(1, 1, 1, tzinfo=UTC)


def test_whole_days_of_a_span_are_known_to_a_query() -> None:
    day = datetime(2026, 11, 10, tzinfo=UTC)

    def whole(start: datetime, end: datetime) -> tuple[datetime, datetime]:
        given = reports.parameters(start, end)
        return given["days_from"], given["days_to"]

    assert whole(day, day.replace(day=12)) == (day, day.replace(day=12))
    assert whole(day.replace(hour=1), day.replace(day=12, hour=5)) == (day.replace(day=11), day.replace(day=12))
    assert whole(day.replace(hour=1), day.replace(hour=2)) == (day.replace(hour=2), day.replace(hour=2))


def test_the_command_lists_own_reports_and_names_broken_ones(
    run,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("METERHOUSE_CONFIG_DIR", str(folder))
    write(folder, "-- Who?\nSELECT 1 AS one", "mine")
    write(folder, "-- Why?\nDROP TABLE runs", "broken")
    listed = run("report", "--json")
    assert listed.exit_code == 0
    assert '{"report": "mine", "exported_by": "day", "question": "Who?"}' in listed.stdout
    assert "broken.sql:2: a report only reads" in listed.stderr
    assert '{"one": 1}' in run("report", "mine", "--json").stdout
    refused = run("report", "broken")
    assert refused.exit_code == 1
