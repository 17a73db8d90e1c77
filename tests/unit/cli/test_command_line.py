"""The command line: where output goes, the exit status, and that an error is one line."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from builders import at, drop, enveloped, notification, polled, polling
from command_line import lines, process

from meterhouse.errors import MeterhouseError

CSV = "timestamp,meter,resource_id,volume,type,unit,project_id\n"


def test_collect_takes_the_spool_through_to_statistics(run: Any, tmp_path: Path) -> None:
    points = [polled(10.0, at(1)), polled(30.0, at(2)), polled(float("nan"), at(3)), polled(-150.0, at(4))]
    drop(tmp_path / "spool", "a.jsonl", [polling("b1", points), enveloped(notification("n1")), b"junk"])
    (done,) = lines(run("collect", "--json"))
    assert {name: done[name] for name in ("messages", "landed", "dead_letters", "samples", "events")} == {
        "messages": 3,
        "landed": 2,
        "dead_letters": 1,
        "samples": 4,
        "events": 1,
    }
    (rolled,) = lines(run("rollup", "--json"))
    assert (rolled["points_judged"], rolled["excluded"]) == (4, 2)
    (found,) = lines(run("statistics", "cpu_util", "--json"))
    assert (found["count"], found["min"], found["max"], found["avg"]) == (2, 10.0, 30.0, 20.0)
    (both,) = lines(run("statistics", "cpu_util", "--include-excluded", "--aggregate", "count", "--json"))
    assert both["count"] == 4
    (letter,) = lines(run("dead-letters", "--json"))
    assert letter["reason"].startswith("not JSON")
    reasons = [row["reasons"] for row in lines(run("samples", "cpu_util", "--json"))]
    assert reasons == [["out_of_range"], ["not_finite"], [], []]
    assert [row["event_type"] for row in lines(run("events", "--json"))] == ["compute.instance.exists"]


def test_load_takes_csv_and_answers_in_sql_on_both_stores(run: Any, tmp_path: Path) -> None:
    file = tmp_path / "points.csv"
    file.write_text(
        CSV + "2026-11-10T12:00:00Z,vcpus,vm1,2,gauge,vcpu,p1\n2026-11-10T12:30:00Z,vcpus,vm1,4,gauge,vcpu,p1\n"
    )
    (done,) = lines(run("load", str(file), "--json"))
    assert done["samples"] == 2
    run("rollup")
    assert lines(run("sql", "SELECT sum(volume) AS s FROM samples", "--json")) == [{"s": 6.0}]
    assert lines(run("sql", "--on", "warehouse", "SELECT sum(count) AS n FROM rollup_1h", "--json")) == [{"n": 2}]
    (usage,) = lines(run("report", "usage_by_project_and_day", "--day", "2026-11-10", "--json"))
    assert (usage["project_id"], usage["vcpu_hours"]) == ("p1", 3.0)
    exported = run("report", "usage_by_project_and_day", "--day", "2026-11-10", "--export")
    assert exported.exit_code == 0
    assert {p.suffix for p in (tmp_path / "lake/exports/usage_by_project_and_day").iterdir()} == {
        ".csv",
        ".json",
        ".parquet",
    }
    listed = [row["report"] for row in lines(run("report", "--json"))]
    assert {"lateness", "quality_by_day_and_rule", "usage_by_project_and_day"} <= set(listed)


def test_convert_is_a_dry_run_that_touches_no_store(run: Any, tmp_path: Path) -> None:
    payload = {
        "instance_id": "i1",
        "tenant_id": "p1",
        "user_id": "u1",
        "memory_mb": 512,
        "vcpus": 1,
        "display_name": "x",
    }
    message = notification("m1", "compute.instance.create.end", payload=payload)
    stdin = json.dumps(enveloped(message)) + "\nnot json\n\n" + json.dumps({"no": "type"}) + "\n"
    first, second, third = lines(run("convert", "samples", stdin=stdin))
    assert {(s["name"], s["volume"]) for s in first["samples"]} >= {("memory", 512), ("vcpus", 1)}
    assert second["errors"][0]["detail"].startswith("line 2: not JSON")
    assert third["errors"][0]["detail"] == "line 4: no event_type"
    event, *_ = lines(run("convert", "events", stdin=stdin))
    assert event["event"]["event_type"] == "compute.instance.create.end"
    assert not (tmp_path / "lake").exists()


def test_backfill_recomputes_and_says_how_much(run: Any, tmp_path: Path) -> None:
    drop(tmp_path / "spool", "a.jsonl", [polling("b1", [polled(1.0, at(1)), polled(2.0, at(61))])])
    run("collect")
    run("rollup")
    (done,) = lines(run("backfill", "rollups", "--from", "2026-11-10", "--to", "2026-11-11", "--json"))
    assert (done["hours"], done["points"]) == (2, 2)


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["statistics", "cpu_utl"], "unknown meter 'cpu_utl'. Did you mean cpu_util?"),
        (["report", "usage"], "unknown report 'usage'. Did you mean"),
        (["alarms", "history", "nothing"], "unknown alarm 'nothing'"),
        (["backfill", "rolups", "--from", "2026-11-10", "--to", "2026-11-11"], "Did you mean rollups?"),
        (["sql", "SELEC 1"], "SQL on the lake: Parser Error"),
        (["sql", "--on", "warehouse", "DELETE FROM series"], "SQL on the warehouse"),
        (["statistics", "cpu_util", "-q", "colour", "eq", "red"], "unknown field 'colour'"),
    ],
)
def test_a_user_error_says_what_is_wrong_and_suggests_similar_names(
    run: Any, tmp_path: Path, arguments: list[str], what: str
) -> None:
    drop(tmp_path / "spool", "a.jsonl", [polling("b1", [polled(1.0, at(1))])])
    run("collect")
    result = run(*arguments)
    assert result.exit_code != 0
    assert isinstance(result.exception, MeterhouseError), result.output
    assert what in str(result.exception)


@pytest.mark.parametrize(
    "arguments",
    [
        ["statistics"],
        ["collect", "--max-messages", "0"],
        ["statistics", "cpu", "--from", "soon"],
        ["archive", "--day", "2026-13-01"],
        ["report", "usage_by_project_and_day", "--day", "9999-12-31"],
        ["statistics", "cpu", "--from", "0001-01-01"],
        ["statistics", "cpu", "--period", "99999999999999999999"],
        ["backfill", "rollups"],
        ["frobnicate"],
    ],
)
def test_a_usage_error_has_status_2(run: Any, arguments: list[str]) -> None:
    assert run(*arguments).exit_code == 2


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"METERHOUSE_COLLECT_BATCH": "many"}, "METERHOUSE_COLLECT_BATCH='many'"),
        ({"METERHOUSE_LAKE_URL": "ftp://x"}, "METERHOUSE_LAKE_URL='ftp://x': must be a folder or s3://bucket/prefix"),
        ({"METERHOUSE_WAREHOUSE_URL": "mysql://x"}, "METERHOUSE_WAREHOUSE_URL"),
        ({"METERHOUSE_S3_ACCESS_KEY": "x"}, "set both or none"),
        ({"METERHOUSE_S3_ENDPOINT": "nonsense"}, "METERHOUSE_S3_ENDPOINT='nonsense': must be http://host:port"),
        ({"METERHOUSE_WAREHOUSE_URL": "sqlite:///:memory:"}, "must name a file"),
        ({"METERHOUSE_WAREHOUSE_URL": "postgresql+psycopg://u:s@h:port/db"}, "is no URL of the form"),
        ({"METERHOUSE_WAREHOUSE_URL": f"sqlite:///{__file__}"}, "cannot be used"),
        ({"METERHOUSE_HOME": __file__}, "is a file, not a folder"),
        ({"METERHOUSE_MEMORY_LIMIT": "1MB"}, "is too little to work with"),
    ],
)
def test_an_invalid_setting_prevents_the_start_and_is_named(
    tmp_path: Path, environment: dict[str, str], said: str
) -> None:
    done = process(tmp_path, "collect", **environment)
    assert (done.returncode, done.stdout) == (1, "")
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize(
    ("name", "content", "where"),
    [
        ("quality.yaml", "rules:\n  - name: a\n    check: nonsense\n", "quality.yaml:2"),
        ("event_definitions.yaml", "- event_type: x\n  traits: [\n", "event_definitions.yaml:"),
        ("event_definitions.yaml", "- traits: {}\n", "event_definitions.yaml:1"),
    ],
)
def test_an_invalid_definition_file_prevents_the_start_with_file_and_line(
    tmp_path: Path, name: str, content: str, where: str
) -> None:
    (tmp_path / name).write_text(content)
    drop(tmp_path / "spool", "a.jsonl", [notification("m1")])
    done = process(tmp_path, "collect", METERHOUSE_CONFIG_DIR=str(tmp_path))
    assert done.returncode == 1
    assert f"{tmp_path}/{where}" in done.stderr
    assert "Traceback" not in done.stderr
    assert (tmp_path / "spool" / "a.jsonl").exists()


def test_a_broken_file_of_alarms_stops_no_collection(tmp_path: Path) -> None:
    (tmp_path / "alarms.yaml").write_text("alarms:\n\n  - name: a\n    threshold_rule: {meter_name: [}\n")
    drop(tmp_path / "spool", "a.jsonl", [notification("m1")])
    assert process(tmp_path, "collect", METERHOUSE_CONFIG_DIR=str(tmp_path)).returncode == 0
    done = process(tmp_path, "alarms", "evaluate", METERHOUSE_CONFIG_DIR=str(tmp_path))
    assert done.returncode == 1
    assert f"{tmp_path}/alarms.yaml:4" in done.stderr
    assert "Traceback" not in done.stderr


def test_the_command_line_starts_without_anything_heavy() -> None:
    heavy = "('dagster', 'pandas', 'pyarrow', 'sqlalchemy', 'duckdb', 'deltalake', 'rich', 'pydantic')"
    probe = f"import sys, meterhouse.cli; print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", probe], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


def test_doctor_reports_ok_for_a_working_site_and_failed_for_a_broken_part(
    run: Any, tmp_path: Path, monkeypatch: Any
) -> None:
    found = {row["part"]: row["state"] for row in lines(run("doctor", "--json"))}
    assert set(found.values()) == {"ok"}
    assert {"settings", "definitions", "quality rules", "alarms", "warehouse", "stream", "lake", "lake commits"} <= set(
        found
    )
    monkeypatch.setenv("METERHOUSE_STORE_RAWW", "info")
    (told,) = (row for row in lines(run("doctor", "--json")) if row["part"] == "settings")
    assert told["state"] == "warning"
    assert "unknown setting METERHOUSE_STORE_RAWW, did you mean METERHOUSE_STORE_RAW?" in told["finding"]
    (tmp_path / "alarms.yaml").write_text("alarms: 3\n")
    monkeypatch.setenv("METERHOUSE_CONFIG_DIR", str(tmp_path))
    result = run("doctor", "--json")
    assert result.exit_code == 1
    assert {row["part"] for row in map(json.loads, result.stdout.splitlines()) if row["state"] == "failed"} == {
        "alarms"
    }


def test_convert_continues_after_a_message_that_it_cannot_convert(run: Any) -> None:
    odd = ['{"message_id": 1%s, "event_type": "a"}' % ("0" * 40), '{"message_id": "\\ud800", "event_type": "b"}', "{}"]
    good = json.dumps(notification("m1"))
    for kind in ("samples", "events"):
        found = lines(run("convert", kind, stdin="\n".join([*odd, good]) + "\n"))
        assert len(found) == 4
        assert found[-1]["message_id"] == "m1"


def test_convert_continues_after_a_line_that_is_too_long_or_nested_too_deeply(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("METERHOUSE_MESSAGE_BYTES", "65536")
    deep = json.dumps(notification("m0")).replace('"payload": {', '"payload": {"a": ' + "[" * 9_000 + "]" * 9_000 + ",")
    found = lines(run("convert", "events", stdin="\n".join(["x" * 70_000, deep, json.dumps(notification("m1"))])))
    assert found[0]["error"]["detail"].startswith("line 1: it has 70,000 bytes, more than METERHOUSE_MESSAGE_BYTES")
    assert found[-1]["message_id"] == "m1"
    assert len(found) == 3


def test_every_result_of_sql_prints_as_json(run: Any, tmp_path: Path) -> None:
    drop(tmp_path / "spool", "a.jsonl", [polling("b1", [polled(1.0, at(1))]), b"\xff junk"])
    run("collect")
    (letter,) = lines(run("sql", "SELECT body FROM dead_letters", "--json"))
    assert letter["body"] == "\\xff junk"
    (found,) = lines(run("sql", "SELECT sum(1::BIGINT) AS s, TIME '10:00' AS t, uuid() AS u FROM samples", "--json"))
    assert (found["s"], found["t"]) == (1, "10:00:00")
    assert lines(run("samples", "cpu_util", "-q", "type", "eq", "gauge", "--json"))[0]["volume"] == 1.0


def test_files_beside_unusable_ones_are_loaded_and_the_figures_count_each_line(run: Any, tmp_path: Path) -> None:
    good, bad = tmp_path / "good.csv", tmp_path / "bad.csv"
    good.write_text("timestamp,value\n2026-11-10,1\n2026-11-10,2\nsoon,3\n")
    bad.write_text("x,y\n1,2\n")
    result = run("load", str(bad), str(good), str(tmp_path / "missing.csv"), "--json")
    assert result.exit_code == 1
    assert "bad.csv:1: has an unknown column 'x'" in result.stderr
    assert "missing.csv: is not a file" in result.stderr
    figures = json.loads(result.stdout)
    assert {name: figures[name] for name in ("files", "messages", "samples", "dead_letters")} == {
        "files": 1,
        "messages": 3,
        "samples": 2,
        "dead_letters": 1,
    }
    assert lines(run("statistics", "good", "--json"))[0]["count"] == 1


def test_a_backfill_over_a_huge_span_only_recomputes_hours_with_points(run: Any, tmp_path: Path) -> None:
    drop(tmp_path / "spool", "a.jsonl", [polling("b1", [polled(1.0, at(1))])])
    run("collect")
    run("rollup")
    for asset in ("rollups", "archive", "usage_by_project_and_day"):
        assert run("backfill", asset, "--from", "1970-01-01", "--to", "2261-12-31").exit_code == 0
    (done,) = lines(run("backfill", "sample_quality", "--from", "1970-01-01", "--to", "2261-12-31", "--json"))
    assert done["hours"] == 1


def test_doctor_mends_and_fails_only_if_rows_are_lost(run: Any, tmp_path: Path) -> None:
    (tmp_path / "n.jsonl").write_text(
        '{"event_type": "a.b", "message_id": "m", "publisher_id": "p", '
        '"priority": "INFO", "timestamp": "2026-11-10 12:00:00", "payload": {}}\n'
    )
    assert run("load", tmp_path / "n.jsonl").exit_code == 0
    for table, exit_code in (("events", 0), ("notifications", 1)):
        run("collect")
        for path in (tmp_path / "lake" / "tables" / table).glob("*/*.parquet"):
            path.write_bytes(b"")
        result = run("doctor", "--mend", "--json")
        assert result.exit_code == exit_code, result.output
        assert '"fixed"' in result.stdout
        assert run("doctor", "--mend").exit_code == 0
    assert "notifications: 1 rows of the arrival hours" in result.stdout
