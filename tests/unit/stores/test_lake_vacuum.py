"""A vacuum deletes what nobody can be reading, also if no checkpoint names it."""

import os
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from builders import at, point

from meterhouse.stores.lake import SEAL, Lake
from meterhouse.stores.lake_tables import SAMPLES

HOURS = 24


def rows(number: int) -> pa.Table:
    return pa.Table.from_pylist([point(float(number), at(number))], schema=SAMPLES)


def files(lake: Lake) -> set[str]:
    return {path.name for path in Path(lake.uri("samples")).rglob("*.parquet") if path.parent.name != "_delta_log"}


def grow_old(lake: Lake) -> None:
    for path in Path(lake.uri("samples")).rglob("*"):
        os.utime(path, (0, 0))


def merge(lake: Lake) -> str:
    """Replace all files by one; return its name."""
    gone = lake.actions("samples")
    (made,) = lake.write_files("samples", rows(99))
    lake.swap("samples", gone, [made], {SEAL: "test"}, same_rows=True)
    return Path(made.path).name


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    lake = Lake(str(tmp_path))
    for number in range(3):
        lake.append("samples", rows(number))
    return lake


def test_files_that_were_replaced_lately_stay(lake: Lake) -> None:
    before = files(lake)
    made = merge(lake)
    grow_old(lake)
    assert lake.vacuum("samples", HOURS) == 0
    assert files(lake) == before | {made}
    time.sleep(0.01)
    assert lake.vacuum("samples", 0) == 3
    assert files(lake) == {made}
    assert lake.vacuum("samples", 0) == 0


def test_what_a_killed_process_left_goes_once_it_is_old(lake: Lake) -> None:
    live = files(lake)
    (left,) = lake.write_files("samples", rows(5))
    assert lake.vacuum("samples", HOURS) == 0
    grow_old(lake)
    assert lake.vacuum("samples", HOURS) == 1
    assert files(lake) == live
    assert Path(left.path).name not in live


def test_what_was_replaced_by_commits_that_are_gone_is_deleted(lake: Lake) -> None:
    made = merge(lake)
    lake.append("samples", rows(7))
    Path(lake.uri("samples"), "_delta_log", f"{4:020}.json").unlink()  # as the upkeep does
    live = {Path(path).name for path in lake.live("samples")}
    grow_old(lake)
    assert made in live
    assert lake.vacuum("samples", HOURS) == 3
    assert files(lake) == live


def test_checkpoints_of_a_folder_forget_replaced_files(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    merge(lake)
    monkeypatch.setattr(time, "time_ns", lambda: 0)
    merge(lake)  # long ago, by its commit
    lake.table("samples").create_checkpoint()
    (checkpoint,) = Path(lake.uri("samples"), "_delta_log").glob("*.checkpoint.parquet")
    removed = pq.read_table(checkpoint, columns=["remove"])["remove"].combine_chunks().drop_null()
    assert len(removed) == 3  # those of the last minute
