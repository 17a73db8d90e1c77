"""The benchmarks of the roll-up, the warehouse and loading run, and print a line for everything that they measure."""

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


def figures(printed: str, name: str, width: int) -> list[list[float]]:
    """The figures of each line of this name."""
    lines = [line for line in printed.splitlines() if line[:width].rstrip() == name]
    return [list(map(float, line[width:].split())) for line in lines]


def test_the_rollup_benchmark_prints_points_seconds_and_memory_of_each_thing(
    capsys: pytest.CaptureFixture[str],
) -> None:
    import rollup

    rollup.main(["--quick", "--only", "day,live"])
    printed = capsys.readouterr().out
    for name in MEASURED:
        ((_, wall, cpu, *others),) = figures(printed, name, rollup.NAMES)
        assert wall > 0
        assert cpu > 0
        assert others[-1] > 50  # MB


def test_the_warehouses_benchmark_writes_as_many_rows_as_its_floor(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import warehouse

    monkeypatch.delenv(warehouse.POSTGRES, raising=False)
    warehouse.main(["--quick"])
    printed = capsys.readouterr().out
    floors, ours = (
        figures(printed, f"{name}, SQLite", warehouse.NAMES) for name in ("floor: bare tables", "the warehouse follows")
    )
    assert [line[0] for line in floors] == [line[0] for line in ours] == [30 * 25, 60 * 2]
    assert all(line[4] > 0 and line[-1] > 50 for line in floors + ours)  # rows/s, MB


def test_the_benchmark_of_loading_loads_all_rows_of_each_kind_of_file(capsys: pytest.CaptureFixture[str]) -> None:
    import load

    load.main(["--quick", "--only", "time,series,parquet,gnocchi,prometheus"])
    printed = capsys.readouterr().out.splitlines()
    assert printed[0] == "4,000 rows of 100 series"
    assert len(printed) == 1 + 6
    assert all(line.endswith(" MB") for line in printed[1:])
