"""Dynamic pollsters: what they ask for, and the samples that they make of answers."""

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from meterhouse.polling.asking import Asking
from meterhouse.settings import read_settings
from tests.dynamic_pollsters import polled
from tests.web import Request, web

VOLUMES = [
    {"id": "v1", "size": 10, "name": "root", "status": "in-use", "project_id": "p1", "user_id": "u1"},
    {"id": "v2", "size": 2.5, "name": "data", "status": "available", "project_id": "p2", "user_id": "u1"},
]


@pytest.fixture(scope="module")
def asking() -> Iterator[Asking]:
    """What asks, without Keystone."""
    made = Asking(read_settings(poll_commands=True))
    yield made
    made.close()


def test_each_entry_of_a_list_is_a_sample_with_the_time_of_the_answer(asking: Asking) -> None:
    with web({"/v3/volumes": {"volumes": VOLUMES}}) as cinder:
        before = datetime.now(UTC)
        found = polled(asking, f"{cinder.url}/v3", metadata_fields=["name", "status"])
        after = datetime.now(UTC)
    assert (found.resources, found.rests, found.warnings) == (2, [], [])
    one, other = found.samples
    moment = datetime.fromisoformat(one.pop("timestamp")).replace(tzinfo=UTC)
    assert before <= moment <= after
    assert one == {
        "source": "openstack",
        "counter_name": "volume.size",
        "counter_type": "gauge",
        "counter_unit": "GB",
        "counter_volume": 10,
        "user_id": "u1",
        "project_id": "p1",
        "resource_id": "v1",
        "resource_metadata": {"name": "root", "status": "in-use"},
    }
    assert (other["resource_id"], other["counter_volume"]) == ("v2", 2.5)


def test_pages_are_followed_to_the_last(asking: Asking) -> None:
    def page(request: Request) -> object:
        if "marker" in request.path:
            return {"volumes": VOLUMES[1:], "next": None}
        return {"volumes": VOLUMES[:1], "next": "volumes?marker=v1"}

    with web({"/v3/volumes": page}) as cinder:
        found = polled(asking, f"{cinder.url}/v3/", next_sample_url_attribute="next")
        assert cinder.paths() == ["/v3/volumes", "/v3/volumes?marker=v1"]
    assert [each["resource_id"] for each in found.samples] == ["v1", "v2"]
