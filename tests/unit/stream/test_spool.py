"""The spool: ready files come in batches, and are only deleted when they are acknowledged."""

import gzip
import logging
from pathlib import Path

import pytest
from builders import drop

from meterhouse.errors import MeterhouseError
from meterhouse.stream import Batch, spool
from meterhouse.stream.spool import Spool


def bodies(batch: Batch) -> list[bytes]:
    return [raw.body for raw in batch.messages]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_only_ready_files_are_taken(tmp_path: Path) -> None:
    drop(tmp_path, "a.jsonl", [b"1"])
    drop(tmp_path, "b.jsonl.gz", [b"2"])
    for name in (".hidden.jsonl", "c.json", "d.jsonl.part", "e.txt"):
        (tmp_path / name).write_bytes(b"no\n")
    (tmp_path / "folder.jsonl").mkdir()

    (batch,) = _taken(Spool(tmp_path))

    assert bodies(batch) == [b"1", b"2"]
    assert [raw.queue for raw in batch.messages] == ["spool:a.jsonl:1", "spool:b.jsonl.gz:1"]
    assert names(tmp_path) == [".hidden.jsonl", "c.json", "d.jsonl.part", "e.txt", "folder.jsonl"]


def test_a_file_stays_until_it_is_acknowledged(tmp_path: Path) -> None:
    drop(tmp_path, "a.jsonl", [b"1"])
    for batch in Spool(tmp_path).batches(10):
        assert names(tmp_path) == ["a.jsonl"]
        batch.acknowledge()
        assert names(tmp_path) == []


def test_a_batch_that_is_not_acknowledged_comes_again(tmp_path: Path) -> None:
    drop(tmp_path, "a.jsonl", [b"1", b"2"])
    folder = Spool(tmp_path)
    assert [bodies(batch) for batch in folder.batches(10)] == [[b"1", b"2"]]
    assert [bodies(batch) for batch in folder.batches(10)] == [[b"1", b"2"]]


def test_a_large_file_is_divided_and_deleted_with_its_last_part(tmp_path: Path) -> None:
    drop(tmp_path, "a.jsonl", [b"1"])
    drop(tmp_path, "b.jsonl", [b"2", b"3", b"4", b"5"])
    left = []
    pieces = []
    for batch in Spool(tmp_path).batches(2):
        batch.acknowledge()
        pieces.append(bodies(batch))
        left.append(names(tmp_path))
    assert pieces == [[b"1", b"2"], [b"3", b"4"], [b"5"]]
    assert left == [["b.jsonl"], ["b.jsonl"], []]


def test_a_file_that_fills_a_batch_exactly_is_deleted_with_an_empty_one(tmp_path: Path) -> None:
    drop(tmp_path, "a.jsonl", [b"1", b"2"])
    assert [bodies(batch) for batch in _taken(Spool(tmp_path), most=2)] == [[b"1", b"2"], []]
    assert names(tmp_path) == []


def test_a_batch_of_long_messages_ends_early(tmp_path: Path) -> None:
    drop(tmp_path, "a.jsonl", [b"x" * 6] * 5)
    assert [len(batch.messages) for batch in _taken(Spool(tmp_path, max_bytes=10))] == [2, 2, 1]


def test_files_that_come_meanwhile_are_taken_too(tmp_path: Path) -> None:
    drop(tmp_path, "a.jsonl", [b"1"])
    taken = []
    for batch in Spool(tmp_path).batches(10):
        batch.acknowledge()
        taken.append(bodies(batch))
        if len(taken) == 1:
            drop(tmp_path, "b.jsonl", [b"2"])
    assert taken == [[b"1"], [b"2"]]


def test_empty_lines_and_an_empty_file_have_no_messages(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(b"\n\n 1 \r\n\n2")
    (tmp_path / "b.jsonl").write_bytes(b"")
    (batch,) = _taken(Spool(tmp_path))
    assert bodies(batch) == [b"1", b"2"]
    assert batch.messages[1].queue == "spool:a.jsonl:5"
    assert names(tmp_path) == []


@pytest.mark.parametrize("damage", ["cut", "garbage", "no gzip"])
def test_a_damaged_file_yields_one_fault_and_is_renamed(tmp_path: Path, damage: str) -> None:
    good = gzip.compress(b"1\n2\n")
    content = {"cut": good[:-6], "garbage": good + good[:8] + b"\xff" * 40, "no gzip": b"1\n2\n"}[damage]
    (tmp_path / "a.jsonl.gz").write_bytes(content)
    drop(tmp_path, "b.jsonl", [b"3"])

    (batch,) = _taken(Spool(tmp_path))

    faults = [raw for raw in batch.messages if raw.fault]
    assert len(faults) == 1
    assert "damaged" in faults[0].fault
    assert bodies(batch)[-1] == b"3"
    assert names(tmp_path) == ["a.jsonl.gz.corrupt"]
    assert (tmp_path / "a.jsonl.gz.corrupt").read_bytes() == content


def test_a_file_that_cannot_be_opened_stays_and_the_rest_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    drop(tmp_path, "a.jsonl", [b"1"])
    drop(tmp_path, "b.jsonl", [b"2"])
    lines = spool._lines

    def refused(path: Path):
        if path.name == "a.jsonl":
            raise PermissionError(13, "Permission denied")
        yield from lines(path)

    monkeypatch.setattr(spool, "_lines", refused)
    with caplog.at_level(logging.WARNING):
        (batch,) = _taken(Spool(tmp_path))
    assert bodies(batch) == [b"2"]
    assert names(tmp_path) == ["a.jsonl"]
    assert "a.jsonl cannot be read and stays in the spool: Permission denied" in caplog.text


def test_the_backlog_counts_files_bytes_and_the_oldest(tmp_path: Path) -> None:
    assert not Spool(tmp_path / "new").backlog()
    drop(tmp_path, "a.jsonl", [b"123"])
    drop(tmp_path, "b.jsonl", [b"4"])
    waiting = Spool(tmp_path).backlog()
    assert waiting
    assert (waiting.messages, waiting.bytes) == (2, 6)
    assert waiting.oldest is not None
    assert abs(waiting.oldest.timestamp() - (tmp_path / "a.jsonl").stat().st_mtime) < 1e-3


def test_a_folder_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(MeterhouseError, match=r"file/spool: the spool folder cannot be read.*METERHOUSE_STREAM_URL"):
        Spool(tmp_path / "file" / "spool").backlog()


def _taken(folder: Spool, most: int = 100) -> list[Batch]:
    taken = []
    for batch in folder.batches(most):
        batch.acknowledge()
        taken.append(batch)
    return taken
