"""The spool: ready files come in batches, and are only deleted when they are acknowledged."""

import gzip
import logging
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from builders import drop

from meterhouse.errors import MeterhouseError
from meterhouse.stream import HEAD_BYTES, Batch, spool
from meterhouse.stream.files import open_regular
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

    def refused(path: Path, longest: int):
        if path.name == "a.jsonl":
            raise PermissionError(13, "Permission denied")
        yield from lines(path, longest)

    monkeypatch.setattr(spool, "_lines", refused)
    with caplog.at_level(logging.WARNING):
        folder = Spool(tmp_path)
        (batch,) = _taken(folder)
        assert _taken(folder) == []
    assert bodies(batch) == [b"2"]
    assert names(tmp_path) == ["a.jsonl"]
    assert caplog.text.count("a.jsonl cannot be read and stays in the spool: Permission denied") == 1


def test_what_is_not_a_file_is_skipped_with_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret\n")
    spool_folder = tmp_path / "spool"
    drop(spool_folder, "b.jsonl", [b"1"])
    (spool_folder / "a.jsonl").symlink_to(secret)
    (spool_folder / "c.jsonl").symlink_to(tmp_path / "nowhere")
    (spool_folder / "d.jsonl").symlink_to("b.jsonl")
    (spool_folder / "e.jsonl").symlink_to(tmp_path)
    (spool_folder / "f.jsonl").mkdir()
    os.mkfifo(spool_folder / "g.jsonl.gz")
    drop(spool_folder, "z.jsonl", [b"2"])
    folder = Spool(spool_folder)
    waiting = folder.backlog()
    with caplog.at_level(logging.WARNING):
        (batch,) = _taken(folder)
        assert _taken(folder) == []
    assert waiting.messages == 2
    assert bodies(batch) == [b"1", b"2"]
    assert names(spool_folder) == ["a.jsonl", "c.jsonl", "d.jsonl", "e.jsonl", "f.jsonl", "g.jsonl.gz"]
    assert secret.exists()
    for name, kind in (("a.jsonl", "a link"), ("f.jsonl", "a folder"), ("g.jsonl.gz", "a pipe, socket or device")):
        assert f"{name} is skipped: it is {kind}" in caplog.text
    assert len(caplog.records) == 6


def test_a_file_that_is_swapped_for_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(b"secret\n")
    (tmp_path / "a.jsonl").symlink_to(tmp_path / "secret")
    with pytest.raises(OSError, match="symbolic link"):
        open_regular(tmp_path / "a.jsonl")
    os.mkfifo(tmp_path / "b.jsonl")
    with pytest.raises(OSError, match="not a regular file"):
        open_regular(tmp_path / "b.jsonl")


LONGEST = 100_000


@pytest.mark.parametrize("ending", [".jsonl", ".jsonl.gz"])
@pytest.mark.parametrize("last", [b"", b"\n"])
def test_a_line_that_is_too_long_has_a_fault_and_the_next_ones_are_taken(
    tmp_path: Path, ending: str, last: bytes
) -> None:
    long = bytes(32 + number % 90 for number in range(LONGEST + 1))
    content = b"\n".join([b"1", long, b"2", long[:LONGEST], long * 9]) + last
    (tmp_path / f"a{ending}").write_bytes(gzip.compress(content) if ending.endswith(".gz") else content)
    drop(tmp_path, "b.jsonl", [b"3"])
    (batch,) = _taken(Spool(tmp_path, longest=LONGEST))
    head = long[:HEAD_BYTES]
    assert bodies(batch) == [b"1", head, b"2", long[:LONGEST].strip(), head, b"3"]
    faults = {raw.queue: raw.fault for raw in batch.messages if raw.fault}
    assert list(faults) == [f"spool:a{ending}:2", f"spool:a{ending}:5"]
    assert faults[f"spool:a{ending}:5"] == (
        "it has 900,009 bytes, more than METERHOUSE_MESSAGE_BYTES allows (100,000); only the first 65,536 are kept"
    )
    assert names(tmp_path) == [f"a{ending}.corrupt"]


MEASURED = """
import resource, sys
from pathlib import Path
from meterhouse.stream.spool import Spool
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
before = peak()
taken = [(len(raw.body), raw.fault) for batch in Spool(Path(sys.argv[1]), longest=1 << 20).batches(9) for raw in
         batch.messages]
print(len(taken), taken[0][1][:25], taken[-1], (peak() - before) >> 10, sep=";")
"""


def test_memory_is_bounded_whatever_a_file_of_a_few_bytes_becomes(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "a.jsonl.gz", "wb", compresslevel=1) as bomb:
        for _ in range(100):
            bomb.write(bytes(1 << 20))
    drop(tmp_path, "b.jsonl", [b"1"])
    done = subprocess.run([sys.executable, "-c", MEASURED, tmp_path], capture_output=True, text=True, check=True)
    count, fault, last, grown = done.stdout.strip().split(";")
    assert (count, fault, last) == ("2", "it has 104,857,600 bytes,", "(1, '')")
    assert int(grown) < 20, f"{grown} MiB more"


@pytest.mark.parametrize(
    ("content", "taken", "fault"),
    [
        (b"1\n2", [b"1", b"2"], ""),
        (b"\0\0\n1\n", [b"\0\0", b"1"], ""),
        ("1\n2\n".encode("utf-16"), None, "UTF-16"),
        ("1\n2\n".encode("utf-16-be"), [b"\0" + b"1\0", b"\0" + b"2\0"], ""),
        (b"\xef\xbb\xbf1\n", [b"1"], ""),
    ],
)
def test_any_bytes_are_lines_or_a_fault_and_the_next_file_is_taken(
    tmp_path: Path, content: bytes, taken: list[bytes] | None, fault: str
) -> None:
    (tmp_path / "a.jsonl").write_bytes(content)
    drop(tmp_path, "b.jsonl", [b"good"])
    (batch,) = _taken(Spool(tmp_path))
    *found, last = batch.messages
    assert last.body == b"good"
    if taken is not None:
        assert [raw.body for raw in found] == taken
    assert fault in found[-1].fault


def test_the_line_before_garbage_behind_a_gzip_is_whole(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(b"1\n2") + b"garbage")
    (batch,) = _taken(Spool(tmp_path))
    assert [(raw.body, bool(raw.fault)) for raw in batch.messages] == [(b"1", False), (b"2", False), (b"", True)]


def test_what_was_read_of_a_cut_line_is_kept(tmp_path: Path) -> None:
    text = b"1\n" + bytes(random.Random(1).randbytes(5000)).replace(b"\n", b"")
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(text)[:3000])
    (batch,) = _taken(Spool(tmp_path))
    whole, cut = batch.messages
    assert whole.body == b"1"
    assert "damaged" in cut.fault
    assert text.startswith(b"1\n" + cut.body)
    assert len(cut.body) > 2000


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
