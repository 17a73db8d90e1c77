"""The command line in tests: called in the process, as a program, and on a terminal of a given width."""

import fcntl
import json
import os
import pty
import shutil
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from meterhouse import cli, settings

PROGRAM = str(Path(sys.executable).parent / "meterhouse")

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, migrated: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """Call a command on an embedded site of the test's own; gives click's result."""
    monkeypatch.setenv("METERHOUSE_HOME", str(tmp_path))
    shutil.copy(migrated, tmp_path / "warehouse.db")

    def call(*arguments: str, stdin: str | bytes | None = None) -> Result:
        settings.settings.cache_clear()
        return CliRunner().invoke(cli.cli, [str(a) for a in arguments], input=stdin)

    yield call
    settings.settings.cache_clear()


def lines(result: Result) -> list[dict[str, Any]]:
    """The JSON lines that a command printed."""
    assert result.exit_code == 0, result.output
    return [json.loads(line) for line in result.stdout.splitlines()]


def process(folder: Path, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run the program on the site in a folder."""
    return subprocess.run(
        [PROGRAM, *arguments],
        env={**os.environ, "METERHOUSE_HOME": str(folder), **environment},
        capture_output=True,
        text=True,
    )


def on_terminal(program: list[str], width: int, **environment: str) -> str:
    """What a program prints on a terminal of a width, standard error included."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, width, 0, 0))
    inherited = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    printed = b""
    with subprocess.Popen(
        program, stdin=theirs, stdout=theirs, stderr=theirs, env={**inherited, "TERM": "xterm", **environment}
    ):
        os.close(theirs)
        while True:
            try:
                piece = os.read(ours, 1 << 16)
            except OSError:  # Linux's way to say that the program has closed it
                break
            if not piece:
                break
            printed += piece
    os.close(ours)
    return printed.decode().replace("\r\n", "\n")
