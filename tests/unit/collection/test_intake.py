"""Intake: what is landed is converted meanwhile, in this process or another; trouble there does not hold up landing."""

import json
import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
from builders import at, count, drop, notification, polled, polling, rows, warehouse_rows
from conftest import OpenSite

from meterhouse.collection import following
from meterhouse.collection import intake as module
from meterhouse.collection.collect import Limits
from meterhouse.collection.following import Follower
from meterhouse.collection.intake import Intake, intake
from meterhouse.conversion.step import Conversion
from meterhouse.errors import AlreadyRunning, DefinitionError, MeterhouseError, Unavailable
from meterhouse.site import Site


def write(site: Site, name: str = "a.jsonl", messages: int = 6) -> None:
    """Files of a notification and of a polled batch of two samples in turn."""
    made: list[Any] = []
    for n in range(messages):
        if n % 2:
            made.append(polling(f"{name}{n}", [polled(2.0, at(n), message_id=f"{name}{n}{k}") for k in range(2)]))
        else:
            made.append(notification(f"{name}{n}"))
    drop(site.settings.spool, name, made)


def test_an_intake_lands_converts_and_catalogs(any_site: Site) -> None:
    write(any_site)
    done = intake(any_site)
    assert (done.collected.messages, done.collected.landed, done.collected.batches) == (6, 6, 1)
    assert done.followed.converted.notifications == 6
    assert done.followed.converted.events == 3
    assert done.followed.catalogued.samples == done.followed.converted.samples == count(any_site, "samples")
    steps = warehouse_rows(any_site, "SELECT step FROM runs ORDER BY step")
    assert [step for (step,) in steps] == ["catalog", "collect", "convert"]


def test_a_quiet_stream_leaves_no_record(site: Site) -> None:
    assert intake(site).collected.messages == 0
    assert not warehouse_rows(site, "SELECT step FROM runs")


def test_messages_that_were_landed_before_but_not_converted_are_converted(site: Site) -> None:
    from meterhouse.collection.collect import collect

    write(site)
    collect(site)
    assert count(site, "events") == 0
    done = intake(site)
    assert done.collected.messages == 0
    assert done.followed.converted.notifications == 6
    assert count(site, "events") == 3


def test_many_messages_are_converted_by_a_separate_process_with_the_same_result(
    open_site: OpenSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, beside = open_site(), open_site()
    started: list[int] = []
    start = following._Process.__init__

    def noted(self: following._Process, *args: Any) -> None:
        start(self, *args)
        started.append(self._child.pid)

    monkeypatch.setattr(following._Process, "__init__", noted)
    write(here)
    intake(here)
    assert not started
    monkeypatch.setattr(module, "MANY_MESSAGES", 2)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1})
    write(beside)
    done = intake(beside)
    assert len(started) == 1
    assert not Path(f"/proc/{started[0]}").exists()
    assert done.followed.converted.notifications == 6
    columns = "sample_id, series_id, timestamp, volume"
    assert rows(beside, "samples", columns, order=columns) == rows(here, "samples", columns, order=columns)
    assert rows(beside, "events", "message_id") == rows(here, "events", "message_id")
    assert warehouse_rows(beside, "SELECT count(*) FROM series") == warehouse_rows(here, "SELECT count(*) FROM series")


def test_if_the_process_is_killed_the_rest_is_still_converted(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1})
    follower = Follower(site)
    follower.start_process()
    assert follower._process is not None
    os.kill(follower._process._child.pid, signal.SIGKILL)
    write(site)
    from meterhouse.collection.collect import collect

    collect(site)
    follower.landed()
    follower.finish()
    assert follower.done.converted.notifications == 6
    assert count(site, "events") == 3


@pytest.mark.parametrize("in_process", [False, True])
def test_who_wants_to_know_is_told_of_new_events(site: Site, monkeypatch: pytest.MonkeyPatch, in_process: bool) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1})
    told: list[int] = []
    follower = Follower(site, lambda: told.append(0))
    if in_process:
        follower.start_process()
    follower.landed()
    follower.finish()
    assert not told  # nothing came
    follower = Follower(site, lambda: told.append(1))
    if in_process:
        follower.start_process()
    write(site)
    from meterhouse.collection.collect import collect

    collect(site)
    follower.landed()
    follower.finish()
    assert told == [1]


def test_errors_of_the_process_are_reported_at_the_end(
    open_site: OpenSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1})
    site = open_site(config_dir=tmp_path)
    (tmp_path / "event_definitions.yaml").write_text("- nonsense\n")
    follower = Follower(site)
    follower.start_process()
    follower.landed()
    with pytest.raises(MeterhouseError, match=r"event_definitions\.yaml"):
        follower.finish()
    assert follower._process is None


@pytest.mark.parametrize(
    "error",
    [DefinitionError("m.yaml cannot work"), Unavailable("the warehouse is away"), ValueError("a fault of a plugin")],
)
def test_landing_continues_if_conversion_fails(
    open_site: OpenSite, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    site = open_site(collect_batch=2)
    write(site)

    def fails(*_: object, **__: object) -> None:
        raise error

    with monkeypatch.context() as broken:
        broken.setattr(following, "convert", fails)
        with pytest.raises(type(error), match=str(error)):
            intake(site)
    assert count(site, "notifications") == 6
    assert not site.stream.backlog()
    assert intake(site).followed.converted.notifications == 6


def test_landing_continues_if_the_figures_cannot_be_recorded(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    write(site)

    def fails(*_: object, **__: object) -> None:
        raise Unavailable("the warehouse is away")

    monkeypatch.setattr("meterhouse.stores.warehouse.Warehouse.record_run", fails)
    assert intake(site).collected.landed == 6


def test_another_converter_is_waited_for_at_the_end(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(following, "WAIT_SECONDS", 0.3)
    write(site)
    with site.warehouse.lease("convert"), pytest.raises(AlreadyRunning, match="'convert' is already running"):
        intake(site)
    assert count(site, "notifications") == 6
    assert intake(site).followed.converted.notifications == 6


def test_an_intake_that_follows_reports_regularly_what_it_did(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REPORT_SECONDS", 0.0)
    told: list[Intake] = []

    def report(done: Intake) -> None:
        if done.collected.messages:
            told.append(done)
            if len(told) == 1:
                write(site, "b.jsonl", messages=4)

    write(site)
    intake(site, Limits(follow=True, stop=lambda: len(told) == 2), report=report)
    assert [done.collected.messages for done in told] == [6, 4]
    found = warehouse_rows(site, "SELECT figures FROM runs WHERE step = 'collect' ORDER BY ended_at")
    assert [json.loads(figures)["landed"] for (figures,) in found] == [6, 4]


def test_landing_continues_while_conversion_takes_long(open_site: OpenSite, monkeypatch: pytest.MonkeyPatch) -> None:
    site = open_site(collect_batch=2)
    landed = threading.Event()
    real = following.convert

    def slow(*given: Any, **named: Any) -> Conversion:
        assert landed.wait(20)
        return real(*given, **named)

    monkeypatch.setattr(following, "convert", slow)

    def progress(done: int, total: int) -> None:
        if count(site, "notifications") == 6:
            landed.set()

    write(site)
    assert intake(site, progress=progress).followed.converted.notifications == 6
    assert landed.is_set()
