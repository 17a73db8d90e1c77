"""Completion by the shell, and what a command loads: those that need no store load none."""

import os
import subprocess

import pytest
from command_line import PROGRAM

from meterhouse.queries import reports
from meterhouse.recompute import assets


def complete(line: str) -> list[str]:
    """The words that bash would offer at the end of a line."""
    words = line.split(" ")
    done = subprocess.run(
        [PROGRAM],
        env={
            **os.environ,
            "_METERHOUSE_COMPLETE": "bash_complete",
            "COMP_WORDS": line.rpartition(" ")[0] + " " + words[-1],
            "COMP_CWORD": str(len(words) - 1),
        },
        capture_output=True,
        text=True,
    )
    assert done.stderr == ""
    return [each.partition(",")[2] for each in done.stdout.splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("meterhouse sam", ["samples"]),
        ("meterhouse report ", reports.names()),
        ("meterhouse report usage_by_project_and_d", ["usage_by_project_and_day"]),
        ("meterhouse report --day y", ["yesterday"]),
        ("meterhouse backfill ", assets()),
        ("meterhouse meters --format ", ["table", "json", "csv", "value"]),
        ("meterhouse statistics cpu --groupby p", ["project_id"]),
        ("meterhouse samples cpu --columns volume,ti", ["volume,timestamp"]),
        ("meterhouse resources ", ["list", "show"]),
        ("meterhouse resources --limit 5 --form", ["--format"]),
        ("meterhouse dead-letters p", ["purge"]),
        ("meterhouse alarms sh", ["show"]),
    ],
)
def test_bash_completes_commands_options_and_values(line: str, wanted: list[str]) -> None:
    assert complete(line) == wanted


@pytest.mark.slow
@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_every_shell_gets_its_script(shell: str) -> None:
    done = subprocess.run(
        [PROGRAM], env={**os.environ, "_METERHOUSE_COMPLETE": f"{shell}_source"}, capture_output=True, text=True
    )
    assert done.returncode == 0
    assert f"{shell}_complete" in done.stdout
