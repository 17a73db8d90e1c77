"""`meterhouse erase`: a user is erased by command, listed and shown."""

import json
from pathlib import Path

from command_line import Run, lines

ANA = "b0a1c2d3e4f5061728394a5b6c7d8e9f"
WHO = ("--reason", "request 17", "--author", "dpo")


def test_a_user_is_erased_listed_and_shown(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    file.write_text(f"timestamp,volume,resource_id,user_id\n2026-11-20T10:05,1,a,{ANA}\n2026-11-20T10:10,2,b,bob\n")
    assert run("load", file).exit_code == 0
    seen = json.loads(run("erase", "user", ANA, *WHO, "--dry-run", "--json").stdout)
    assert (seen["rows"]["samples"], seen["dry_run"], seen["pseudonym"]) == (1, True, None)
    refused = run("erase", "user", ANA, *WHO)
    assert refused.exit_code == 2
    assert "give --yes" in refused.stderr
    assert lines(run("erase", "--json")) == []
    done = json.loads(run("erase", "user", ANA, *WHO, "--yes", "--json").stdout)
    assert {row["user_id"] for row in lines(run("samples", "t", "--json"))} == {done["pseudonym"], "bob"}
    (listed,) = lines(run("erase", "list", "--json"))
    assert (listed["state"], listed["author"], listed["reason"]) == ("done", "dpo", "request 17")
    assert json.loads(run("erase", "show", "1", "--json").stdout)["rows"]["samples"] == 1
    assert "1 user was erased" in run("doctor").stdout
    assert ANA not in run("erase", "show", "1").stdout


def test_a_list_that_is_none_is_refused_with_its_line(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "list.jsonl"
    file.write_text('\n{"pseudonym": "x"}\n')
    assert "list.jsonl:2" in str(run("erase", "again", "--list", file).exception)
    assert "cannot be read" in str(run("erase", "again", "--list", tmp_path / "none").exception)
    assert "too short" in run("erase", "user", "p1", *WHO, "--yes").stderr
    assert "unknown erasure '1'" in str(run("erase", "show", "1").exception)
