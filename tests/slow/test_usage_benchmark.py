"""The benchmark of usage and bills runs, prints a line for everything that it measures, and finds the true amounts."""

import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bench"))


def test_the_usage_benchmark_prints_what_a_month_and_a_day_cost_and_that_the_amounts_are_right(
    capsys: pytest.CaptureFixture[str],
) -> None:
    import usage

    usage.main(["--quick"])
    printed = capsys.readouterr().out.splitlines()
    for name in ("floor: bare DuckDB reads the notifications", "evidence and periods", "usage", "bill", "all three"):
        lines = [
            line[usage.NAMES :].replace(",", "").split() for line in printed if line[: usage.NAMES].rstrip() == name
        ]
        assert len(lines) == 2  # the month, and its last day
        for _, wall, cpu, *others in lines:
            assert float(wall) > 0
            assert float(cpu) > 0
            assert float(others[-1]) > 50  # MB
    assert printed[-1].split() == ["exact", "to", "the", "second", "yes"]
