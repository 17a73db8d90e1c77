"""Syncing: what is acknowledged is on disk."""

import os
import threading
from pathlib import Path

import pytest
from builders import drop, notification
from conftest import OpenSite

from meterhouse.collection import syncing
from meterhouse.collection.collect import collect
from meterhouse.collection.syncing import Syncer
from meterhouse.errors import MeterhouseError
from meterhouse.site import Site
from meterhouse.stores.disk import sync


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of synced files, in the order of syncing."""
    names: list[str] = []
    real = os.fsync

    def fsync(handle: int) -> None:
        names.append(Path(os.readlink(f"/proc/self/fd/{handle}")).name)
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)
    return names


def test_a_batch_is_acknowledged_after_its_files_and_their_folder_are_synced(tmp_path: Path, synced: list[str]) -> None:
    files = [tmp_path / "a", tmp_path / "b"]
    for file in files:
        file.touch()
    seen: list[list[str]] = []
    syncer = Syncer()
    syncer.acknowledge(files, lambda: seen.append(list(synced)))
    syncer.close()
    assert seen == [["a", "b", tmp_path.name]]


def test_batches_that_wait_are_synced_together_and_acknowledged_in_their_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_it, go_on = threading.Event(), threading.Event()
    rounds: list[set[Path]] = []

    def slow(files: set[Path]) -> None:
        rounds.append(files)
        at_it.set()
        assert go_on.wait(10)

    monkeypatch.setattr(syncing, "sync", slow)
    order: list[int] = []
    syncer = Syncer()
    for number in range(4):
        syncer.acknowledge([tmp_path / str(number)], lambda number=number: order.append(number))
        if number == 0:
            assert at_it.wait(10)
    assert order == []
    go_on.set()
    syncer.close()
    assert order == [0, 1, 2, 3]
    assert [len(files) for files in rounds] == [1, 3]


def test_a_batch_that_cannot_be_synced_is_not_acknowledged_nor_are_later_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(files: set[Path]) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(syncing, "sync", broken)
    acknowledged: list[int] = []
    syncer = Syncer()
    syncer.acknowledge([tmp_path / "a"], lambda: acknowledged.append(1))
    with pytest.raises(
        MeterhouseError, match=r"landed messages cannot be synced or acknowledged: .*Input/output error"
    ):
        syncer.wait()
    with pytest.raises(MeterhouseError, match="cannot be synced or acknowledged"):
        syncer.acknowledge([tmp_path / "b"], lambda: acknowledged.append(2))
    syncer.close()
    assert not acknowledged


def test_a_deleted_file_is_skipped(tmp_path: Path) -> None:
    acknowledged: list[int] = []
    syncer = Syncer()
    syncer.acknowledge([tmp_path / "gone" / "a"], lambda: acknowledged.append(1))
    syncer.close()
    assert acknowledged == [1]


def test_collection_syncs_data_and_log_of_what_it_landed(site: Site, synced: list[str]) -> None:
    path = drop(site.settings.spool, "a.jsonl", [notification("m1"), b"bad"])
    collect(site)
    assert not Path(path).exists()
    assert len([name for name in synced if name.startswith("part-")]) == 2  # a notification, a dead letter
    assert f"{1:020}.json" in synced
    assert "_delta_log" in synced
    assert site.lake.written() == []


def test_a_spool_file_stays_if_landed_data_cannot_be_synced(
    open_site: OpenSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = open_site(collect_batch=1)
    path = drop(site.settings.spool, "a.jsonl", [notification("m1"), notification("m2")])

    def broken(files: set[Path]) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as bad:
        bad.setattr(syncing, "sync", broken)
        with pytest.raises(MeterhouseError, match="cannot be synced or acknowledged"):
            collect(site)
    assert Path(path).exists()
    done = collect(site)
    assert (done.landed, done.redelivered) == (1, 1)


def test_a_failed_acknowledgement_ends_the_collection_without_hanging(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = drop(site.settings.spool, "a.jsonl", [notification("m1")])

    def refused(self: Path, missing_ok: bool = False) -> None:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as bad:
        bad.setattr(Path, "unlink", refused)
        with pytest.raises(MeterhouseError, match=r"cannot be synced or acknowledged: .*Permission denied"):
            collect(site)
    assert Path(path).exists()
    assert collect(site).redelivered == 1


def test_data_files_are_synced_before_the_commits_that_name_them(tmp_path: Path, synced: list[str]) -> None:
    files = [tmp_path / "_delta_log" / "1.json", tmp_path / "arrival_hour=x" / "part-1"]
    for file in files:
        file.parent.mkdir()
        file.touch()
    sync(set(files))
    assert synced[:2] == ["part-1", "1.json"]
