"""Collection: every message is landed once, whatever comes how often and in whatever order."""

import os
import socket
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest
from builders import count, drop, enveloped, notification, rows
from conftest import OpenSite
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from meterhouse import times
from meterhouse.collection.collect import INDEX, Collected, Limits, batches, collect
from meterhouse.collection.landing import Landing
from meterhouse.conversion.step import convert
from meterhouse.errors import AlreadyRunning
from meterhouse.site import Site
from meterhouse.stores.leases import boot_time
from meterhouse.stores.warehouse_tables import leases
from meterhouse.stream import Raw
from meterhouse.stream.files import BOM


def figures(done: Collected) -> tuple[int, int, int, int]:
    return done.messages, done.landed, done.redelivered, done.dead_letters


def ids(site: Site) -> list[str]:
    return [row["message_id"] for row in rows(site, "notifications", "message_id")]


def test_messages_are_landed_with_their_header_and_the_spool_is_emptied(any_site: Site) -> None:
    drop(any_site.settings.spool, "a.jsonl", [notification("m1"), enveloped(notification("m2"))])
    done = collect(any_site)
    assert figures(done) == (2, 2, 0, 0)
    found = rows(any_site, "notifications")
    assert [row["message_id"] for row in found] == ["m1", "m2"]
    assert {row["source"] for row in found} == {"spool"}
    assert {row["arrival_hour"] for row in found} == {times.arrival_hour(found[0]["received_at"])}
    assert found[0]["timestamp"] == times.parse("2026-11-10T12:00:00Z")
    assert not any_site.stream.backlog()


def test_a_redelivered_message_is_landed_once_in_one_file_over_files_and_over_runs(site: Site) -> None:
    m1, m2 = notification("m1"), notification("m2")
    drop(site.settings.spool, "a.jsonl", [m1, m1, enveloped(m1)])
    drop(site.settings.spool, "b.jsonl", [m1, m2])
    assert figures(collect(site)) == (5, 2, 3, 0)
    drop(site.settings.spool, "c.jsonl", [m2, m1])
    assert figures(collect(site)) == (2, 0, 2, 0)
    assert ids(site) == ["m1", "m2"]


def test_a_redelivered_message_is_landed_once_over_batches(open_site: OpenSite) -> None:
    site = open_site(collect_batch=2)
    drop(site.settings.spool, "a.jsonl", [notification(f"m{n % 3}") for n in range(9)])
    done = collect(site)
    assert figures(done) == (9, 3, 6, 0)
    assert done.batches == 5
    assert ids(site) == ["m0", "m1", "m2"]


def test_a_message_without_an_id_is_landed_once_too(site: Site) -> None:
    drop(site.settings.spool, "a.jsonl", [b'{"event_type": "a"}', b'{"event_type": "a"}', b'{"event_type": "b"}'])
    assert figures(collect(site)) == (3, 2, 1, 0)


def test_a_message_that_is_not_a_notification_is_one_dead_letter_with_the_reason(site: Site) -> None:
    bad = [b"not json", b'{"no": "type"}', b"\xff\xfe\x00"]
    drop(site.settings.spool, "a.jsonl", [bad[0], notification("m1"), *bad[1:]])
    assert figures(collect(site)) == (4, 1, 0, 3)
    drop(site.settings.spool, "a.jsonl", [bad[0], notification("m1"), *bad[1:]])
    assert figures(collect(site)) == (4, 0, 1, 0)
    found = rows(site, "dead_letters", "queue, reason, body", order="queue")
    assert [row["body"] for row in found] == bad
    assert [row["queue"] for row in found] == ["spool:a.jsonl:1", "spool:a.jsonl:3", "spool:a.jsonl:4"]
    assert [row["reason"].partition(":")[0] for row in found] == ["not JSON", "no event_type", "not UTF-8"]


def test_a_damaged_file_is_a_dead_letter_and_the_rest_is_collected(site: Site) -> None:
    drop(site.settings.spool, "a.jsonl", [notification("m1")])
    (site.settings.spool / "b.jsonl.gz").write_bytes(b"\x1f\x8b\x08\x00 no more")
    drop(site.settings.spool, "c.jsonl.gz", [notification("m2")])
    assert figures(collect(site)) == (3, 2, 0, 1)
    assert ids(site) == ["m1", "m2"]
    assert [path.name for path in site.settings.spool.iterdir()] == ["b.jsonl.gz.corrupt"]


def test_a_message_that_is_too_long_is_one_dead_letter_however_often_its_file_comes(open_site: OpenSite) -> None:
    site = open_site(message_bytes=1 << 16)
    lines = [notification("m1"), b"x" * 70_000, notification("m2")]
    for landed, dead, known in ((2, 1, 0), (0, 0, 1)):
        drop(site.settings.spool, "a.jsonl", lines)
        drop(site.settings.spool, "b.jsonl", [notification("m3")])
        done = collect(site)
        assert (done.landed, done.dead_letters, done.dead_letters_known) == (landed + bool(landed), dead, known)
    (letter,) = rows(site, "dead_letters")
    assert (letter["queue"], letter["body"]) == ("spool:a.jsonl:2", b"x" * (1 << 16))
    assert [path.name for path in site.settings.spool.iterdir()] == ["a.jsonl.corrupt"]


def test_a_second_run_changes_nothing(site: Site) -> None:
    drop(site.settings.spool, "a.jsonl", [notification("m1"), b"bad"])
    collect(site)
    versions = {name: site.lake.version(name) for name in ("notifications", "dead_letters")}
    assert figures(collect(site)) == (0, 0, 0, 0)
    assert {name: site.lake.version(name) for name in versions} == versions


def test_each_interrupted_run_gets_further(site: Site) -> None:
    drop(site.settings.spool, "a.jsonl", [notification(f"m{n}") for n in range(7)])
    landed = []
    while site.stream.backlog():
        landed.append(collect(site, Limits(messages=3)).landed)
        assert len(landed) < 10
    assert sum(landed) == 7
    assert max(landed) <= 3
    assert count(site, "notifications") == 7


def test_each_run_that_runs_out_of_time_gets_further(open_site: OpenSite) -> None:
    site = open_site(collect_batch=2)
    drop(site.settings.spool, "a.jsonl", [notification(f"m{n}") for n in range(6)])
    runs = 0
    while site.stream.backlog():
        collect(site, Limits(seconds=0.0))
        runs += 1
        assert runs < 10
    assert count(site, "notifications") == 6


def test_a_message_is_landed_again_only_after_the_hours_of_redelivery(open_site: OpenSite) -> None:
    site = open_site(redelivery_hours=1)
    long_ago = times.now() - timedelta(hours=3)
    Landing(site.lake, site.settings.home_path / INDEX, 1, "spool", "").land(
        [Raw(b'{"event_type": "a", "message_id": "m1"}', "q")]
    )
    old = site.lake.table("notifications").to_pyarrow_table().to_pylist()
    assert len(old) == 1
    import pyarrow as pa

    from meterhouse.stores.lake_tables import NOTIFICATIONS

    past = [{**row, "message_id": "m2", "arrival_hour": times.arrival_hour(long_ago)} for row in old]
    site.lake.append("notifications", pa.Table.from_pylist(past, schema=NOTIFICATIONS))
    drop(site.settings.spool, "a.jsonl", [notification("m1"), notification("m2")])
    assert figures(collect(site)) == (2, 1, 1, 0)


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.one_of(
            st.binary(max_size=30),
            st.sampled_from([b'{"event_type": "a", "message_id": "%d"}' % n for n in range(4)]),
            st.text(max_size=20).map(lambda text: b'{"event_type": "t"}' + text.encode("utf-8", "ignore")),
        ),
        max_size=12,
    )
)
def test_every_line_of_garbage_is_accounted_for(site: Site, garbage: list[bytes]) -> None:
    name = times.now().strftime("%H%M%S%f.jsonl")
    whole = b"\n".join(garbage).removeprefix(BOM)
    lines = [part.strip() for part in whole.split(b"\n") if part.strip()]
    before = count(site, "notifications"), count(site, "dead_letters")
    drop(site.settings.spool, name, garbage)
    done = collect(site)
    assert done.messages == len(lines)
    assert done.landed + done.redelivered + done.dead_letters == len(lines)
    after = count(site, "notifications"), count(site, "dead_letters")
    assert (after[0] - before[0], after[1] - before[1]) == (done.landed, done.dead_letters)
    assert not site.stream.backlog()


def test_two_collectors_of_one_spool_land_each_message_once(open_site: OpenSite, tmp_path: Path) -> None:
    sites = [open_site(home=tmp_path), open_site(home=tmp_path)]
    drop(sites[0].settings.spool, "a.jsonl", [notification(f"m{n}") for n in range(50)])
    turns = [batches(site) for site in sites]
    done = [Collected(), Collected()]
    while turns:
        for turn in list(turns):
            try:
                done[turns.index(turn)].add(next(turn))
            except StopIteration:
                turns.remove(turn)
    assert sum(one.landed for one in done) == 50
    assert sorted(ids(sites[0])) == sorted(f"m{n}" for n in range(50))


def test_a_second_converter_fails_because_one_is_already_running(site: Site) -> None:
    with (
        site.warehouse.lease("convert"),
        pytest.raises(AlreadyRunning, match=f"'convert' is already running.*{os.getpid()}"),
    ):
        convert(site)
    convert(site)


def test_the_lease_of_a_process_that_died_here_is_taken_over_at_once(site: Site) -> None:
    gone = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True)
    _hold(site, f"{socket.gethostname()}:{int(gone.stdout)}:1234:abcd")
    convert(site)


def test_the_lease_of_a_live_process_or_of_another_machine_holds_until_it_runs_out(site: Site) -> None:
    here = f"{socket.gethostname()}:{os.getpid()}:{boot_time(os.getpid())}:abcd"
    for holder in (here, "another-machine:1:1:abcd"):
        _hold(site, holder)
        with pytest.raises(AlreadyRunning):
            convert(site)
        _hold(site, holder, expired=True)
        convert(site)


def _hold(site: Site, holder: str, *, expired: bool = False) -> None:
    moment = times.now() + timedelta(seconds=-1 if expired else 600)
    with site.warehouse.begin() as connection:
        connection.execute(leases.delete())
        connection.execute(leases.insert().values(name="convert", holder=holder, expires_at=moment))


def test_files_stay_in_the_spool_if_the_lake_fails(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    path = drop(site.settings.spool, "a.jsonl", [notification("m1")])

    def fails(*_: object, **__: object) -> int:
        raise OSError("disk full")

    with monkeypatch.context() as broken:
        broken.setattr("meterhouse.stores.lake.Lake.commit", fails)
        with pytest.raises(OSError, match="disk full"):
            collect(site)
    assert Path(path).exists()
    assert collect(site).landed == 1
