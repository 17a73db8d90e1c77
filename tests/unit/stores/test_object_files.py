"""Files of an object store are read as a whole if they are small, and block by block otherwise."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from meterhouse.stores import object_files
from meterhouse.stores.object_files import ObjectFiles


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small files and blocks."""
    monkeypatch.setattr(object_files, "WHOLE_BYTES", 200)
    monkeypatch.setattr(object_files, "BLOCK_BYTES", 100)


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("size", [0, 1, 200, 201, 300, 399, 1_000])
@pytest.mark.parametrize("known", [True, False])
def test_any_part_of_a_file_is_read_as_it_is(tmp_path: Path, size: int, known: bool) -> None:
    random = np.random.default_rng(size)
    text = random.bytes(size)
    (tmp_path / "a=1").mkdir()
    (tmp_path / "a=1/file").write_bytes(text)
    store = ObjectFiles(str(tmp_path), {}, {"a=1/file": size} if known else {})
    assert store.read("a=1/file") == text
    with store.open("a=1/file") as file:
        assert file.size() == size
        for _ in range(50):
            start, length = random.integers(0, size + 10, 2).tolist()
            file.seek(min(start, size))
            assert file.read(length) == text[min(start, size) :][:length]


@pytest.mark.usefixtures("small")
def test_of_a_large_file_no_more_is_read_than_what_is_wanted_and_each_block_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = pa.table({"a": np.random.default_rng(1).integers(0, 1 << 60, 50_000)})
    pq.write_table(rows, tmp_path / "a.parquet", row_group_size=10_000)
    monkeypatch.setattr(object_files, "BLOCK_BYTES", 5_000)
    monkeypatch.setattr(object_files, "BLOCKS_KEPT", 20)
    store, read, held = ObjectFiles(str(tmp_path), {}), list[int](), list[int]()
    hold = object_files._Blocks._hold

    def counted(self: object_files._Blocks, missing: list[int]) -> None:
        read.extend(missing)
        held.append(len(self._held))
        hold(self, missing)

    monkeypatch.setattr(object_files._Blocks, "_hold", counted)
    with store.open("a.parquet") as file, pq.ParquetFile(file) as opened:
        assert opened.read_row_group(2).equals(rows.slice(20_000, 10_000))
        assert opened.read_row_group(2).equals(rows.slice(20_000, 10_000))
    size = (tmp_path / "a.parquet").stat().st_size
    assert len(read) == len(set(read)) < size / 5_000 / 2
    read.clear()
    with store.open("a.parquet") as file, pq.ParquetFile(file) as opened:
        assert pa.concat_tables(opened.read_row_group(n) for n in range(5)).equals(rows)
    assert len(read) < 1.2 * len(set(read))  # those with the footer are read again with the last rows
    assert max(held) <= 20 < len(set(read)) / 4  # memory does not grow with the file


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    for read in (ObjectFiles(str(tmp_path), {}).read, ObjectFiles(str(tmp_path), {}).open):
        with pytest.raises(FileNotFoundError, match="there is no such object: 'b/file'"):
            read("b/file")
