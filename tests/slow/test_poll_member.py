"""A member as a program: what it polls is in the samples, and it ends, waits and reads its files again as it should."""

import json
import signal
import time
import urllib.request
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml
from brokers import wait_for
from polling_members import PolledSite

from meterhouse.collection.collect import collect

pytestmark = [pytest.mark.slow, pytest.mark.service]

HOUR = 3600

MakeSite = Callable[..., PolledSite]


@pytest.fixture
def make(tmp_path: Path, json_url: str) -> Iterator[MakeSite]:
    """Makes the site, with one source unless said otherwise."""
    made: list[PolledSite] = []

    def one(*, sources: int = 1, interval: int = HOUR, **settings: Any) -> PolledSite:
        site = PolledSite(
            tmp_path, f"m{time.time_ns()}", json_url, sources=sources, interval=interval, settings=settings
        )
        made.append(site)
        return site

    yield one
    for site in made:
        site.kill()


def behave(json_url: str, name: str, **keys: object) -> None:
    request = urllib.request.Request(f"{json_url}/behaviour/{name}", json.dumps(keys).encode(), method="PUT")
    urllib.request.urlopen(request).close()


def test_what_is_due_is_polled_once_and_published_to_the_stream_if_the_site_wants_it(make: MakeSite) -> None:
    polled = make(poll_to="stream", telemetry_secret="secret")
    first, second = polled.poll("--json"), polled.poll("--json")
    assert json.loads(first.stdout) == {"tasks": 1, "resources": 5, "samples": 5, "failed": 0, "missed": 0}, first
    assert json.loads(second.stdout)["tasks"] == 0
    assert collect(polled.site).landed == 1
    found = polled.count()
    assert [*found.points.values()] == [1] * 5
    assert found.done == found.members


def test_a_member_that_is_asked_to_end_releases_what_hangs_and_the_next_polls_it(make: MakeSite, json_url: str) -> None:
    polled = make(sources=2)
    behave(json_url, polled.lists[0], hang=1)
    member = polled.start()
    wait_for(lambda: [task["state"] for task in polled.tasks()].count("done") == 1, "the source that answers")
    member.send_signal(signal.SIGTERM)
    assert member.wait(60) == 0, polled.log()
    assert "released" in polled.log()
    (task,) = [task for task in polled.tasks() if task["source"] == polled.lists[0]]
    assert (task["state"], task["attempts"], task["uncertain"]) == ("open", 0, False)
    behave(json_url, polled.lists[0])
    assert polled.poll().returncode == 0
    assert {task["state"] for task in polled.tasks()} == {"done"}
    assert set(polled.count().points.values()) == {1}


def test_a_member_polls_what_its_changed_files_say_and_keeps_to_the_old_if_they_are_broken(
    make: MakeSite, json_url: str
) -> None:
    polled = make(interval=2)
    polled.start()
    sources = polled.home / "config/polling.yaml"
    wait_for(lambda: polled.tasks(), "the first slot")
    said = yaml.safe_load(sources.read_text())
    sources.write_text("sources: [")
    wait_for(lambda: "stays as it was" in polled.log(), "the warning about the broken file")
    said["sources"].append({**said["sources"][0], "name": "new", "resources": [f"{json_url}/lists/new"]})
    sources.write_text(yaml.safe_dump(said))
    wait_for(lambda: any(task["source"] == "new" and task["state"] == "done" for task in polled.tasks()), "the new one")
    pollsters = polled.home / "config/pollsters.d/volumes.yaml"
    pollsters.write_text(pollsters.read_text().replace("gauge", "guage"))
    wait_for(
        lambda: "pollster volume.size is polled as it was before" in polled.log(), "the warning about the pollster"
    )
    broken = datetime.now(UTC)
    wait_for(lambda: polled.polled(broken), "a slot after the pollster was broken")
    polled.stop()
    assert polled.log().count("stays as it was") == 1
    assert not [task for task in polled.tasks() if "removed" in (task["error"] or "")]


def test_the_pages_of_a_long_list_are_tasks_of_their_own(make: MakeSite, json_url: str) -> None:
    polled = make()
    pollsters = polled.home / "config/pollsters.d/volumes.yaml"
    (said,) = yaml.safe_load(pollsters.read_text())
    said |= {
        "url_path": "12000?limit=1000",
        "response_entries_key": polled.lists[0],
        "next_sample_url_attribute": "next",
    }
    pollsters.write_text(yaml.safe_dump([said]))
    first = polled.poll("--json")
    assert json.loads(first.stdout)["samples"] == 12_000, first
    assert [(task["shard"], task["state"]) for task in polled.tasks()] == [
        ("1/1", "done"),
        ("1/1+1", "done"),
        ("1/1+2", "done"),
    ]
    found = polled.count()
    assert len(found.points) == 12_000
    assert set(found.points.values()) == {1}
