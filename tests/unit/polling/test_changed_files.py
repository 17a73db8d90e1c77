"""Files that are changed while a member runs: a slip in them ends nothing, and nothing is left of what was before."""

import gc
import threading
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from meterhouse.polling.definitions import load
from meterhouse.polling.member import files
from meterhouse.polling.member.clocks import Clock
from meterhouse.polling.member.files import Files
from meterhouse.polling.polled import PollError
from meterhouse.settings import read_settings

CENTRAL = frozenset({"central"})


def pollster(name: str, **other: Any) -> dict[str, Any]:
    entry = {"name": name, "sample_type": "gauge", "unit": "GB", "endpoint_type": "lists", "url_path": "5"}
    return {**entry, "value_attribute": "value", "resource_id_attribute": "id", **other}


def source(name: str, *meters: str, interval: object = 60) -> dict[str, Any]:
    return {"name": name, "interval": interval, "meters": list(meters), "resources": ["http://127.0.0.1:9/lists"]}


class Folder:
    """The configuration of a member, and what it makes of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "pollsters.d").mkdir()
        self.sources(source("s", "a", "b", "image.size"), source("t", "b"))
        self.pollsters(pollster("a"), pollster("b"), pollster("image.size"))
        self.files = Files(read_settings(config_dir=folder), CENTRAL, Clock())

    def sources(self, *entries: Any) -> None:
        (self.folder / "polling.yaml").write_text(yaml.safe_dump({"sources": list(entries)}))

    def pollsters(self, *entries: Any) -> None:
        (self.folder / "pollsters.d/own.yaml").write_text(yaml.safe_dump(list(entries)))

    def digests(self) -> dict[str, str]:
        """What is polled now, by `source/pollster`: another text after any change."""
        self.files.changed()
        return {"/".join(key): each.digest for key, each in self.files.schedules.items()}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Folder:
    monkeypatch.setattr(files, "LOOK_SECONDS", 0.0)
    return Folder(tmp_path)


def test_entries_with_a_fault_are_polled_as_before_until_it_is_mended_and_the_others_as_the_files_say(
    folder: Folder, caplog: pytest.LogCaptureFixture
) -> None:
    before = folder.digests()
    assert before.keys() == {"s/a", "s/b", "s/image.size", "t/b"}

    folder.pollsters(pollster("a", url_path="6"), pollster("b", sample_type="guage"), pollster("image.size", unit=[]))
    slip = folder.digests()
    assert slip.pop("s/a") != before["s/a"], "what has no fault changes"
    assert slip == {key: before[key] for key in ("s/b", "s/image.size", "t/b")}, "no shipped one steps in"
    assert "pollster b is polled as it was before, until its fault is mended" in caplog.text

    folder.pollsters(pollster("a"), {"sample_type": "gauge"})
    assert folder.digests() == before, "an entry whose name is gone may be any"
    (folder.folder / "pollsters.d/own.yaml").write_text("- name: [")
    assert folder.digests() == before, "nor can a file that is not YAML end anything"

    folder.pollsters(pollster("a"), pollster("b"), pollster("image.size"))
    folder.sources(source("s", "a", interval="soon"), source("t", "a"))
    assert folder.digests() == {key: before[key] for key in ("s/a", "s/b", "s/image.size")} | {
        "t/a": folder.digests()["t/a"]
    }, "a source is as it was, too; and what another one has no longer is not polled"

    folder.sources(source("s", "a"))
    assert folder.digests().keys() == {"s/a"}, "what is removed is not polled once the files have no fault"
    assert folder.files.digest == load(folder.folder).digest


def test_a_fault_that_was_there_at_the_start_leaves_doubt_about_its_entry_alone(folder: Folder) -> None:
    assert not folder.files.doubtful("s", "b")
    folder.pollsters(pollster("a"), pollster("b", sample_type="guage"))
    begun = load(folder.folder)
    assert begun.doubtful("s", "b")
    assert not begun.doubtful("s", "a")
    (folder.folder / "pollsters.d/own.yaml").write_text("- name: [")
    assert load(folder.folder).doubtful("s", "a")


def test_what_asked_before_the_files_changed_is_closed_when_its_last_task_has_ended(folder: Folder) -> None:
    def limits() -> int:
        return [each.name for each in threading.enumerate()].count("time limits")

    others, asking = limits(), None
    for number in range(4):
        if asking is not None:
            assert asking.now() <= datetime.now(UTC), "a task that was begun goes on with what it has"
        asking = folder.files.asking
        with pytest.raises(PollError):
            asking.get("http://127.0.0.1:9/lists", seconds=1)
        folder.sources(source("s", "a", interval=100 + number))
        assert folder.files.changed()
    asking = None
    gc.collect()
    for each in threading.enumerate():
        if each.name == "time limits" and limits() > others:
            each.join(5)
    assert limits() == others
