"""The benchmark of the roll-up runs, and prints a line for everything that it measures."""

import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bench"))

MEASURED = (
    *("floor: three bare GROUP BYs, landed files", "judge and roll up, landed files", "compact"),
    *("floor: three bare GROUP BYs, compacted files", "judge and roll up, compacted files"),
    *("land", "catalog", "judge and roll up", "all three"),
)


def test_the_rollup_benchmark_prints_points_seconds_and_memory_of_each_thing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    import rollup

    rollup.main(["--quick", "--only", "day,live"])
    printed = capsys.readouterr().out
    for name in MEASURED:
        (line,) = (each for each in printed.splitlines() if each[: rollup.NAMES].rstrip() == name)
        _, wall, cpu, *others = map(float, line[rollup.NAMES :].split())
        assert wall > 0
        assert cpu > 0
        assert others[-1] > 50  # MB
