"""`meterhouse correct`: corrections by command, listed, shown and revoked."""

import json
from pathlib import Path

from command_line import Run, lines

SPAN = ("--from", "2026-11-20T10:00", "--to", "2026-11-20T11:00")
WHO = ("--reason", "a broken sensor", "--author", "ana")


def loaded(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    file.write_text("timestamp,volume,resource_id\n2026-11-20T10:05,1,a\n2026-11-20T10:10,2,b\n2026-11-20T11:10,3,a\n")
    assert run("load", file).exit_code == 0


def total(run: Run) -> float:
    (row,) = lines(run("statistics", "t", "--aggregate", "sum", "--json"))
    return float(row["sum"])


def test_a_correction_is_recorded_listed_and_revoked(run: Run, tmp_path: Path) -> None:
    loaded(run, tmp_path)
    done = json.loads(run("correct", "delete", "t", *SPAN, *WHO, "--where", "volume > 1", "--json").stdout)
    assert (done["id"], done["points"], done["hours"], done["dry_run"]) == (1, 1, 1, False)
    assert total(run) == 4
    assert lines(run("correct", "replace", "t", *SPAN, *WHO, "--volume", "10", "--json"))[0]["points"] == 1
    assert total(run) == 13
    listed = lines(run("correct", "--json"))
    assert [(row["action"], row["state"], row["reason"], row["author"]) for row in listed] == [
        ("delete", "active", "a broken sensor", "ana"),
        ("replace", "active", "a broken sensor", "ana"),
    ]
    assert [row["becomes"] for row in lines(run("correct", "points", "2", "--json"))] == [10]
    assert run("correct", "revoke", "1", "--reason", "no", "--author", "bo").exit_code == 0
    assert total(run) == 23
    shown = json.loads(run("correct", "show", "1", "--json").stdout)
    assert (shown["state"], shown["revoked_by"], shown["revoked_reason"]) == ("revoked", "bo", "no")


def test_a_dry_run_changes_nothing(run: Run, tmp_path: Path) -> None:
    loaded(run, tmp_path)
    done = json.loads(run("correct", "accept", "t", *SPAN, *WHO, "--dry-run", "--json").stdout)
    assert (done["points"], done["hours"], done["dry_run"]) == (2, 1, True)
    assert lines(run("correct", "list", "--json")) == []


def test_the_login_name_is_the_author(run: Run, tmp_path: Path) -> None:
    import getpass

    loaded(run, tmp_path)
    assert run("correct", "delete", "t", *SPAN, "--reason", "x").exit_code == 0
    assert lines(run("correct", "--json"))[0]["author"] == getpass.getuser()


def test_usage_errors_exit_with_2(run: Run, tmp_path: Path) -> None:
    loaded(run, tmp_path)
    for arguments, said in (
        (("delete", "t", "--from", "2026-11-20", "--to", "2026-11-20", *WHO), "the span is empty"),
        (("delete", "t", *SPAN), "--reason"),
        (("delete", "t", *SPAN, "--reason", " "), "it is empty"),
        (("delete", "t", *SPAN, *WHO, "--where", "colour = red"), "unknown field 'colour'"),
        (("replace", "t", *SPAN, *WHO), "give --volume or --factor"),
    ):
        found = run("correct", *arguments)
        assert (found.exit_code, said in found.output) == (2, True), found.output
