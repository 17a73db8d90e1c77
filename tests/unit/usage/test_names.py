"""Names of projects, users and flavors: by time, from messages and a file."""

import itertools
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from builders import NOON, at, drop, notification, polled, polling
from conftest import OpenSite
from hypothesis import given
from hypothesis import strategies as st

from meterhouse import times
from meterhouse.collection.collect import collect
from meterhouse.errors import UnknownName
from meterhouse.site import Site
from meterhouse.stores.warehouse_tables import resource_names
from meterhouse.usage.names import EVENT, KEYSTONE, Seen, history_of, listed, merge, names_at, runs
from meterhouse.usage.names_sync import sync

_files = itertools.count()


def said(message_id: str, moment: datetime, **more: Any) -> dict[str, Any]:
    text = moment.replace(tzinfo=None).isoformat(sep=" ")
    return notification(message_id, timestamp=text, **more)


def of_project(message_id: str, moment: datetime, name: str) -> dict[str, Any]:
    return said(message_id, moment, _context_project_id="p1", _context_project_name=name)


def land(site: Site, *messages: dict[str, Any]) -> None:
    drop(site.settings.spool, f"{next(_files)}.jsonl", messages)
    collect(site)
    sync(site)


def stored(site: Site) -> list[tuple[Any, ...]]:
    with site.warehouse.read() as connection:
        return sorted(tuple(row) for row in connection.execute(resource_names.select()))


@pytest.fixture
def config(tmp_path: Path) -> Path:
    folder = tmp_path / "config"
    folder.mkdir()
    return folder


def test_messages_name_projects_users_flavors_images_and_volume_types(site: Site) -> None:
    nova = {"nova_object.data": {"flavorid": "f2", "name": "m2.large"}}
    instance = {"nova_object.data": {"uuid": "i2", "flavor": nova}}
    land(
        site,
        said("1", NOON, _context_project_id="p1", _context_project_name="Shop", _context_project_domain_name="D"),
        said("2", NOON, _context_tenant="p2", _context_tenant_name="Old shop", _context_user="u2"),
        said("3", NOON, _context_user_id="u1", _context_user_name="ann", _context_user_domain_name="Default"),
        notification(
            "4",
            "compute.instance.create.end",
            payload={"instance_id": "i1", "instance_type": "m1.small", "instance_flavor_id": "1"},
        ),
        notification("5", "instance.create.end", payload=instance),
        notification("6", "flavor.create", payload={"nova_object.data": {"flavorid": "f3", "name": "m3"}}),
        notification("7", "identity.user.created", payload={"initiator": {"id": "u3", "username": "root"}}),
        notification("8", "image.update", payload={"id": "im1", "name": "Debian 12"}),
        notification("9", "volume_type.create", payload={"volume_types": {"id": "vt1", "name": "fast"}}),
        polling(
            "10",
            [
                polled(1.0, project_name="Polled", user_name="polly", project="p4", user_id="u4"),
                polled(1.0, resource="r2", resource_metadata={"flavor": {"id": "f4", "name": "m4"}}),
                polled(1.0, resource="r3", resource_metadata={"flavor": "m5"}),
            ],
        ),
    )
    found = {(each["kind"], each["id"]): (each["name"], each["domain_name"]) for each in listed(site)}
    assert found == {
        ("project", "p1"): ("Shop", "D"),
        ("project", "p2"): ("Old shop", None),
        ("project", "p4"): ("Polled", None),
        ("user", "u1"): ("ann", "Default"),
        ("user", "u3"): ("root", None),
        ("user", "u4"): ("polly", None),
        ("flavor", "1"): ("m1.small", None),
        ("flavor", "f2"): ("m2.large", None),
        ("flavor", "f3"): ("m3", None),
        ("flavor", "f4"): ("m4", None),
        ("image", "im1"): ("Debian 12", None),
        ("volume_type", "vt1"): ("fast", None),
    }


def test_an_id_in_the_place_of_a_name_and_bodies_that_no_parser_reads_name_nothing(site: Site) -> None:
    land(
        site,
        said("1", NOON, _context_project_id="1127889", _context_project_name="1127889"),
        said("2", NOON, _context_project_id="p2", _context_project_name="\ud800"),
        said("3", NOON, _context_project_id="p3", _context_project_name=""),
        said("4", NOON, _context_project_id="p4", _context_project_name="x" * 2000),
        said("5", NOON, _context_project_id="p5", _context_project_name="Good"),
    )
    assert names_at(site, "project", NOON) == {"p5": "Good"}


def test_a_renamed_project_keeps_its_old_name_in_the_past(any_warehouse: Site) -> None:
    site = any_warehouse
    land(site, of_project("1", at(hours=-2), "Old"), of_project("2", at(hours=2), "New"))
    land(site, of_project("3", at(hours=5), "New"))
    assert names_at(site, "project", at(hours=1)) == {"p1": "Old"}
    assert names_at(site, "project", at(hours=2)) == {"p1": "New"}
    assert names_at(site, "project", at(days=40)) == {"p1": "New"}
    assert names_at(site, "project", at(days=-400)) == {"p1": "Old"}  # before anybody named it
    assert names_at(site, "user", NOON) == {}
    (old, new) = history_of(site, "New")
    assert (old["name"], old["valid_from"], old["valid_to"]) == ("Old", times.EPOCH, at(hours=2))
    assert (new["name"], new["valid_from"], new["valid_to"]) == ("New", at(hours=2), None)


def test_late_and_repeated_messages_give_the_names_of_messages_in_order(open_site: OpenSite) -> None:
    messages = [
        of_project("1", at(0), "A"),
        of_project("2", at(10), "A"),
        of_project("3", at(20), "B"),
        of_project("4", at(30), "B"),
        of_project("5", at(40), "A"),
    ]
    in_order, late = open_site(), open_site()
    for message in messages:
        land(in_order, message)
    for n in (4, 1, 3, 0, 2, 0):
        land(late, messages[n] | {"message_id": f"{n} again"})
    assert stored(late) == stored(in_order)
    assert [(row["name"], row["valid_from"]) for row in history_of(late, "p1")] == [
        ("A", times.EPOCH),
        ("B", at(20)),
        ("A", at(40)),
    ]
    before = stored(late)
    assert sync(late).changed == 0
    assert stored(late) == before


_MOMENTS = st.integers(0, 6).map(lambda minutes: at(minutes))
_SEEN = st.builds(
    lambda name, one, other: Seen(name, None, min(one, other), max(one, other)),
    st.sampled_from("ab"),
    _MOMENTS,
    _MOMENTS,
)


@given(st.lists(_SEEN, max_size=6))
def test_runs_are_the_same_again_and_never_overlap(seen: list[Seen]) -> None:
    found = runs(seen)
    assert runs([*found, *found]) == found
    for one, other in itertools.pairwise(found):
        assert one.name != other.name
        assert one.first_at <= one.last_at <= other.first_at
        assert one.first_at < other.first_at


def test_a_message_from_the_future_counts_from_its_arrival(site: Site) -> None:
    land(site, of_project("1", datetime(2099, 1, 1, tzinfo=UTC), "Ahead"))
    assert names_at(site, "project", times.now()) == {"p1": "Ahead"}
    assert stored(site)[0][2] < times.now()


def test_all_messages_are_read_again_when_the_record_of_them_is_of_another_lake(site: Site) -> None:
    land(site, of_project("1", NOON, "Shop"))
    before = stored(site)
    with site.warehouse.begin() as connection:
        connection.execute(resource_names.delete())
        connection.exec_driver_sql("UPDATE followed SET mark = 1 WHERE follower = 'names'")
    assert sync(site).messages == 1
    assert stored(site) == before


def test_the_file_rules_then_keystone_then_messages(open_site: OpenSite, config: Path) -> None:
    site = open_site(config_dir=config)
    land(site, of_project("1", at(-60), "By message"))

    def by_keystone(moment: datetime, name: str) -> None:
        with site.warehouse.begin() as connection:
            merge(connection, KEYSTONE, {("project", "p1"): [Seen(name, "Default", moment, moment)]})

    by_keystone(at(0), "By Keystone")
    land(site, of_project("2", at(30), "By another message"))
    (config / "names.csv").write_text("kind,id,name,valid_from\nproject,p1,By file,2026-11-10T13:00:00Z\n")
    by_time = [(row["name"], row["valid_from"], row["witness"]) for row in history_of(site, "p1")]
    assert by_time == [
        ("By message", times.EPOCH, EVENT),
        ("By Keystone", at(0), KEYSTONE),
        ("By file", at(60), "file"),
    ]
    (config / "names.csv").unlink()
    assert names_at(site, "project", at(61)) == {"p1": "By Keystone"}


def test_a_change_of_the_file_counts_at_once(open_site: OpenSite, config: Path) -> None:
    site = open_site(config_dir=config)
    file = config / "names.csv"
    file.write_text("kind,id,name\nproject,p1,One\n")
    assert names_at(site, "project", NOON) == {"p1": "One"}
    file.write_text("kind,id,name\nproject,p1,Another\nuser,u1,ann\n")
    assert names_at(site, "project", NOON) == {"p1": "Another"}
    assert names_at(site, "user", NOON) == {"u1": "ann"}


def test_an_unusable_file_leaves_the_names_that_it_had(
    open_site: OpenSite, config: Path, caplog: pytest.LogCaptureFixture
) -> None:
    site = open_site(config_dir=config)
    file = config / "names.csv"
    file.write_text("kind,id,name\nproject,p1,One\n")
    assert names_at(site, "project", NOON) == {"p1": "One"}
    file.write_text("id;label\np1;Two\n")
    assert names_at(site, "project", NOON) == {"p1": "One"}
    assert f"{file}:1: the first line has the columns 'id,label'. Write kind,id,name" in caplog.text
    (fault,) = sync(site).faults
    assert fault.startswith(f"{file}:1: ")


def test_an_unknown_name_lists_near_ones(site: Site) -> None:
    land(site, of_project("1", NOON, "Webshop"))
    with pytest.raises(UnknownName, match="Did you mean Webshop"):
        history_of(site, "webshop")
