"""Progress: nothing in a pipe, nothing for two seconds, then a bar that goes away."""

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from command_line import PROGRAM, on_terminal

from meterhouse.cli import progress as progress_module
from meterhouse.cli.progress import progress

SCRIPT = """
import sys, time
from meterhouse.cli import progress as module
from meterhouse.cli.progress import progress
module.PATIENCE_SECONDS = {patience}
with progress("counting sheep") as update:
    time.sleep({seconds})
    update(3, 12)
    time.sleep({seconds})
print("rich" in sys.modules)
"""


def script(patience: float, seconds: float) -> list[str]:
    return [sys.executable, "-c", SCRIPT.format(patience=patience, seconds=seconds)]


def test_two_seconds_are_what_nothing_is_shown_for() -> None:
    assert progress_module.PATIENCE_SECONDS == 2.0


def test_what_is_quick_shows_nothing_on_a_terminal_and_loads_nothing() -> None:
    assert on_terminal(script(2, 0.01), 80) == "False\n"


def test_nothing_is_shown_in_a_pipe_however_long_it_takes() -> None:
    done = subprocess.run(script(0.01, 0.3), capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("False\n", "")


@pytest.mark.slow
def test_what_takes_long_shows_a_spinner_then_a_bar_and_both_go_away() -> None:
    shown = on_terminal(script(0.1, 1.5), 80)
    spinner, _, bar = shown.partition("3/12")
    assert "counting sheep" in spinner
    assert "0:00:0" in spinner
    assert bar
    assert shown.rstrip("\n").rpartition("\n")[2].endswith("True")
    assert "\x1b[2K" in shown.rpartition("0:00:0")[2]  # the last line of it is cleared


def test_a_block_that_does_not_return_to_python_gets_a_spinner_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(progress_module, "PATIENCE_SECONDS", 0.01)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    before = threading.active_count()
    with progress("waiting"):
        assert threading.active_count() == before + 1
    assert threading.active_count() == before


def test_an_error_comes_through(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    clock = time.monotonic()
    with pytest.raises(ZeroDivisionError), progress("dividing"):
        _ = 1 / 0
    assert time.monotonic() - clock < 1


@pytest.mark.slow
def test_a_quick_command_shows_its_data_alone(tmp_path: Path) -> None:
    shown = on_terminal([PROGRAM, "report"], 100, METERHOUSE_HOME=str(tmp_path))
    assert shown.splitlines()[0].split() == ["report", "exported_by", "question"]
    assert "\x1b" not in shown
