"""Dead letters: each delivery is stored once, found, retried and purged, and nothing else is affected."""

import base64
import json
import shutil
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from builders import at, count, drop, enveloped, line, notification, polled, rows
from builders import polling as batch_of
from click.testing import CliRunner, Result
from conftest import OpenSite
from deltalake import DeltaTable
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from meterhouse import cli, dead_letters, times
from meterhouse import settings as own_settings
from meterhouse.archive.seal import archive
from meterhouse.collection import dead_letter_retry
from meterhouse.collection.collect import collect
from meterhouse.collection.dead_letter_retry import retry
from meterhouse.collection.landing import Landing
from meterhouse.conversion.signatures import signature
from meterhouse.conversion.step import convert
from meterhouse.dead_letters import Letter, Selection, find, hex_id, purge, store_letters
from meterhouse.errors import AlreadyRunning, Conflict, UnknownName
from meterhouse.settings import read_settings
from meterhouse.site import Site
from meterhouse.stores.lake import Lake
from meterhouse.stores.lake_tables import DEAD_LETTERS

ALL = Selection()
LONG_AGO = "2000-01-01T00"
SECRET = "a long random text"
GARBAGE = settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def letter(body: bytes = b"junk", *, when: datetime | None = None, **more: Any) -> Letter:
    return Letter(when or at(), more.pop("queue", "q"), more.pop("reason", "not JSON"), body, **more)


def put(site: Site, *letters: Letter) -> int:
    return store_letters(site.lake, letters, LONG_AGO)


def bodies(site: Site) -> list[bytes]:
    return sorted(row["body"] for row in rows(site, "dead_letters", "body"))


def sibling(site: Site) -> Lake:
    """The lake as another process opens it."""
    return Lake.from_settings(site.settings)


# -- the table ------------------------------------------------------------------------------------------------


def old_lake(site: Site, letters: int) -> None:
    """Dead letters as the release before the column `headers` wrote them."""
    schema = DEAD_LETTERS.remove(DEAD_LETTERS.get_field_index("headers"))
    folder = Path(site.lake.uri("dead_letters"))
    folder.mkdir(parents=True)
    table = DeltaTable.create(str(folder), schema, partition_by=["arrival_hour"])
    for n in range(letters):
        row = {"arrival_hour": times.arrival_hour(at()), "letter_id": n, "received_at": at(), "queue": "q"}
        columns = {name: [value] for name, value in {**row, "reason": "old", "body": b"old"}.items()}
        from deltalake import write_deltalake

        write_deltalake(table, pa.table(columns, schema=schema), mode="append")


def test_a_table_of_an_earlier_release_gets_the_new_column(site: Site) -> None:
    old_lake(site, letters=2)
    assert rows(site, "dead_letters", "body, headers") == [{"body": b"old", "headers": None}] * 2
    assert put(site, letter(b"new", headers='{"a": 1}')) == 1
    assert rows(site, "dead_letters", "body, headers") == [
        {"body": b"new", "headers": '{"a": 1}'},
        *[{"body": b"old", "headers": None}] * 2,
    ]
    version = site.lake.version("dead_letters")
    assert sibling(site).version("dead_letters") == version


def test_two_processes_with_an_old_table_add_the_column_once(site: Site) -> None:
    old_lake(site, letters=1)
    lakes = [sibling(site) for _ in range(4)]
    barrier = threading.Barrier(len(lakes))

    def opens(lake: Lake) -> None:
        barrier.wait()
        lake.table("dead_letters")

    threads = [threading.Thread(target=opens, args=(lake,)) for lake in lakes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    columns = [[column.name for column in lake.table("dead_letters").schema().fields] for lake in lakes]
    assert columns == [DEAD_LETTERS.names] * len(lakes)


def test_letters_from_before_and_after_the_new_column_are_sealed_and_purged(site: Site) -> None:
    old_lake(site, letters=2)
    assert {each.table_name: each.rows for each in archive(site, at().date()).sealed} == {"dead_letters": 2}
    put(site, letter(b"new", headers="{}"))
    assert {each.table_name: each.rows for each in archive(site, at().date()).sealed} == {"dead_letters": 3}
    assert Counter(row["headers"] for row in rows(site, "dead_letters")) == {None: 2, "{}": 1}
    purge(site, Selection(reason="old"))
    assert bodies(site) == [b"new"]


# -- burying --------------------------------------------------------------------------------------------------


def test_two_equal_published_messages_are_two_letters(site: Site) -> None:
    first = letter(redelivered=False)
    assert put(site, first, first) == 2
    assert put(site, first) == 1
    assert count(site, "dead_letters") == 3
    assert len({row["letter_id"] for row in rows(site, "dead_letters")}) == 1


@pytest.mark.parametrize("there", [0, 1, 2, 3])
@pytest.mark.parametrize("again", [1, 2, 4])
@pytest.mark.parametrize("first", [0, 1, 2])
def test_of_redelivered_letters_only_the_missing_are_added(site: Site, there: int, again: int, first: int) -> None:
    put(site, *[letter(redelivered=False)] * there)
    batch = [*[letter()] * again, *[letter(redelivered=False)] * first]
    assert put(site, *batch, letter(b"another")) == max(0, again - there) + first + 1
    assert count(site, "dead_letters") == max(there, again) + first + 1


def test_a_poison_message_that_comes_repeatedly_is_one_row(site: Site) -> None:
    assert put(site, letter(redelivered=False)) == 1
    assert [put(site, letter(when=at(n))) for n in range(5)] == [0] * 5
    assert count(site, "dead_letters") == 1


def test_letters_are_distinguished_by_queue_body_and_place(site: Site) -> None:
    unlike = [letter(), letter(b"other"), letter(queue="r"), letter(place="m:0"), letter(place="m:1")]
    assert put(site, *unlike, *unlike) == 10
    assert put(site, *unlike) == 0
    assert len({row["letter_id"] for row in rows(site, "dead_letters")}) == 5


def test_a_letter_is_known_from_the_given_hour_on(site: Site) -> None:
    put(site, letter())
    assert store_letters(site.lake, [letter(when=at(hours=5))], times.arrival_hour(at())) == 0
    assert store_letters(site.lake, [letter(when=at(hours=5))], times.arrival_hour(at(hours=1))) == 1


def test_several_processes_store_a_redelivered_letter_once(site: Site) -> None:
    lakes = [sibling(site) for _ in range(4)]
    site.lake.table("dead_letters")
    barrier = threading.Barrier(len(lakes))
    new: list[int] = []

    def consume(lake: Lake) -> None:
        for n in range(6):
            barrier.wait()
            new.append(store_letters(lake, [letter(b"%d" % n), letter(b"%d" % n, redelivered=False)], LONG_AGO))

    threads = [threading.Thread(target=consume, args=(lake,)) for lake in lakes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # Each first delivery is a row; of the redelivered ones the first process adds one, the others find it.
    assert sum(new) == count(site, "dead_letters") == 6 * (len(lakes) + 1)


def test_a_process_that_is_overtaken_repeats_the_lookup(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    append, other = Lake.append, sibling(site)
    overtakers = [letter(b"mine"), letter(b"theirs")]

    def slow(self: Lake, *arguments: Any, **more: Any) -> int:
        if self is site.lake and overtakers:
            store_letters(other, [overtakers.pop()], LONG_AGO)
        return append(self, *arguments, **more)

    monkeypatch.setattr(Lake, "append", slow)
    assert put(site, letter(b"mine")) == 0
    assert bodies(site) == [b"mine", b"theirs"]


def test_a_process_that_is_overtaken_every_time_gives_up(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def overtaken(*_: object, **__: object) -> int:
        raise Conflict("overtaken")

    monkeypatch.setattr(Lake, "append", overtaken)
    monkeypatch.setattr(dead_letters, "_ATTEMPTS", 3)
    with pytest.raises(Conflict, match="other processes keep writing dead letters"):
        put(site, letter())
    assert count(site, "dead_letters") == 0


@given(st.lists(st.text(), min_size=1, max_size=8))
@GARBAGE
def test_a_reason_is_one_line_of_bounded_length(site: Site, reasons: list[str]) -> None:
    given = [*reasons, "a\r\nb\n\nc\u2028d\x0be", "x" * 5000]
    put(site, *[letter(reason=reason, redelivered=False) for reason in given])
    kept = [row["reason"] for row in rows(site, "dead_letters", "reason")]
    assert {"a b c d e", "x" * 500} <= set(kept)
    assert all(len(reason) <= 500 and len(reason.splitlines()) <= 1 for reason in kept)


def test_a_queue_and_headers_that_no_table_can_hold_do_not_stop_a_letter(site: Site) -> None:
    odd = letter(queue="spool:\udcff\0.jsonl:1", headers='"\udcff"', reason="at \udcff")
    assert put(site, odd) == 1
    assert put(site, odd) == 0
    (found,) = rows(site, "dead_letters", "queue, headers, reason")
    assert found == {"queue": "spool:?.jsonl:1", "headers": '"?"', "reason": "at ?"}


def test_sealing_keeps_every_letter_of_a_day(site: Site) -> None:
    put(site, *[letter(redelivered=False)] * 3, letter(b"other"))
    put(site, letter(redelivered=False))
    (sealed,) = archive(site, at().date()).sealed
    assert (sealed.rows, sealed.duplicates) == (5, 0)
    assert count(site, "dead_letters") == 5
    assert put(site, *[letter()] * 4) == 0


# -- finding --------------------------------------------------------------------------------------------------


def test_letters_are_found_newest_first_by_id_queue_reason_and_time(site: Site) -> None:
    put(
        site,
        letter(b"a", queue="notifications.info", reason="not JSON: x"),
        letter(b"b", queue="notifications.error", reason="no event_type", when=at(hours=1)),
        letter(b"c", queue="load:x.csv:2", reason="not JSON: y", when=at(hours=2)),
    )
    (b,) = (row["letter_id"] for row in rows(site, "dead_letters", where="queue = 'notifications.error'"))

    def found(**how: Any) -> bytes:
        return b"".join(row["body"] for row in find(site.lake, Selection(**how), 100))

    assert found() == b"cba"
    assert found(queue="notifications.*") == b"ba"
    assert found(reason="not JSON*") == b"ca"
    assert found(queue="*.info", reason="no *") == b""
    assert found(start=at(hours=1)) == b"cb"
    assert found(end=at(hours=1)) == b"a"
    assert found(start=at(hours=1), end=at(hours=2)) == b"b"
    assert found(ids=(b,)) == b"b"
    assert found(ids=(b,), start=at(hours=2)) == b""
    assert found(queue="o'clock") == b""
    assert [row["body"] for row in find(site.lake, ALL, 2)] == [b"c", b"b"]
    with pytest.raises(UnknownName, match=f"unknown dead letter '{hex_id(5)}'"):
        found(ids=(b, 5))


# -- purging --------------------------------------------------------------------------------------------------


def test_a_purge_deletes_what_is_selected_and_a_dry_run_only_counts_it(site: Site) -> None:
    put(site, letter(b"one"), letter(b"three", when=at(5)), letter(b"stays", queue="r"))
    version = site.lake.version("dead_letters")
    tried = purge(site, Selection(queue="q"), dry_run=True)
    assert (tried.letters, tried.bytes, tried.oldest, tried.newest) == (2, 8, at(), at(5))
    assert site.lake.version("dead_letters") == version
    assert purge(site, Selection(queue="q")) == tried
    assert bodies(site) == [b"stays"]
    assert purge(site, Selection(queue="q")).letters == 0
    assert site.lake.version("dead_letters") == version + 1


def test_equal_letters_with_another_time_or_reason_stay(site: Site) -> None:
    put(site, letter(redelivered=False), letter(redelivered=False))
    put(site, letter(redelivered=False, when=at(1), reason="another release's"))
    put(site, letter(redelivered=False, when=at(2)))
    assert purge(site, Selection(reason="not JSON", end=at(2))).letters == 2
    assert [row["received_at"] for row in rows(site, "dead_letters")] == [at(1), at(2)]


@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.integers(0, 1), st.sampled_from("abc"), st.booleans()), min_size=4, max_size=14
    ),
    st.integers(1, 4),
)
@settings(GARBAGE, max_examples=8)
def test_a_purge_deletes_exactly_what_is_selected_however_many_there_are(
    site: Site, given: list[tuple[int, int, str, bool]], at_once: int
) -> None:
    letters = [
        letter(body.encode(), when=at(minute, hours=hour), reason="goes" if goes else "stays", redelivered=False)
        for hour, minute, body, goes in dict.fromkeys(given)
    ]
    # Equal letters that came together have one reason, and can only be selected together.
    letters = list({(each.received_at, each.body): each for each in letters}.values()) * 2
    put(site, *letters)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(dead_letters, "_ROWS_AT_ONCE", at_once)
        purged = purge(site, Selection(reason="goes")).letters
    staying = sorted((each.received_at, each.body) for each in letters if each.reason == "stays")
    assert sorted((row["received_at"], row["body"]) for row in rows(site, "dead_letters")) == staying
    assert purged == len(letters) - len(staying)
    purge(site, ALL)
    assert count(site, "dead_letters") == 0


def test_a_flood_is_purged_in_few_commits(site: Site) -> None:
    flood = [letter(b"%d" % n, when=at(n / 100)) for n in range(5_000)]
    others = [letter(b"other %d" % n, queue="r", when=at(n)) for n in range(3)]
    put(site, *flood, *others)
    version = site.lake.version("dead_letters")
    assert purge(site, Selection(queue="q")).letters == 5_000
    assert count(site, "dead_letters") == 3
    assert site.lake.version("dead_letters") <= version + 2


def test_letters_that_come_during_a_purge_stay(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    put(site, letter(b"a"), letter(b"b"))
    swap, arriving = Lake.swap, [letter(b"new"), letter(b"a", redelivered=False, when=at(1))]

    def slow(self: Lake, *arguments: Any, **more: Any) -> int:
        while arriving:
            store_letters(sibling(site), [arriving.pop()], LONG_AGO)
        return swap(self, *arguments, **more)

    monkeypatch.setattr(Lake, "swap", slow)
    assert purge(site, ALL).letters == 2
    assert bodies(site) == [b"a", b"new"]


def test_a_purge_that_is_disturbed_every_time_gives_up(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    put(site, letter())

    def disturbed(*_: object, **more: object) -> int:
        raise Conflict("disturbed")

    monkeypatch.setattr(Lake, "swap", disturbed)
    monkeypatch.setattr(dead_letters, "_ATTEMPTS", 3)
    with pytest.raises(Conflict, match="other processes keep changing the dead letters"):
        purge(site, ALL)
    assert count(site, "dead_letters") == 1


def test_a_seal_does_not_bring_back_what_was_purged_meanwhile(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    put(site, letter(b"a"), letter(b"b"))
    swap = Lake.swap

    def slow(self: Lake, *arguments: Any, **more: Any) -> int:
        monkeypatch.setattr(Lake, "swap", swap)
        purge(site, Selection(ids=(letter(b"a").letter_id,)))
        return swap(self, *arguments, **more)

    monkeypatch.setattr(Lake, "swap", slow)
    with pytest.raises(Conflict, match="has changed dead_letters in the meantime"):
        archive(site, at().date())
    assert bodies(site) == [b"b"]
    (sealed,) = archive(site, at().date()).sealed
    assert (sealed.rows, bodies(site)) == (1, [b"b"])


def test_a_sealed_day_is_sealed_again_after_a_purge(site: Site) -> None:
    put(site, letter(b"a"), letter(b"b"))
    archive(site, at().date())
    purge(site, Selection(ids=(letter(b"a").letter_id,)))
    (sealed,) = archive(site, at().date()).sealed
    assert (sealed.rows, bodies(site)) == (1, [b"b"])
    assert archive(site, at().date()).sealed == []
    purge(site, ALL)
    (empty,) = archive(site, at().date()).sealed
    assert (empty.rows, empty.files) == (0, [])


# -- retrying -------------------------------------------------------------------------------------------------


def message_ids(site: Site) -> list[str]:
    return [row["message_id"] for row in rows(site, "notifications", "message_id")]


def test_a_letter_that_is_a_notification_now_is_landed_and_removed_and_the_rest_stays(site: Site) -> None:
    put(
        site,
        letter(line(notification("m1"))),
        letter(line(enveloped(notification("m2"))), queue="r"),
        letter(b"junk"),
        letter(b"{}"),
        letter(b"[]", queue="r"),
    )
    done = retry(site, ALL)
    assert (done.letters, done.landed, done.known, done.removed, done.kept) == (5, 2, 0, 2, 3)
    assert set(done.reasons) == {
        "no event_type",
        "not a JSON object but list",
        "not JSON: unexpected character, expected a JSON value: line 1 column 1 (char 0)",
    }
    assert message_ids(site) == ["m1", "m2"]
    assert bodies(site) == [b"[]", b"junk", b"{}"]
    assert {row["source"] for row in rows(site, "notifications", "source")} == {"dead-letters"}
    done = retry(site, Selection(queue="q"))
    assert (done.letters, done.landed, done.removed, done.kept) == (2, 0, 0, 2)


def test_a_retried_message_that_is_landed_already_is_not_landed_again(site: Site) -> None:
    drop(site.settings.spool, "a.jsonl", [notification("m1")])
    collect(site)
    good = letter(line(notification("m1")), redelivered=False, when=times.now())
    put(site, good, good)
    done = retry(site, ALL)
    assert (done.letters, done.landed, done.known, done.removed) == (2, 0, 2, 2)
    assert message_ids(site) == ["m1"]
    assert count(site, "dead_letters") == 0


def test_a_letter_that_is_older_than_the_hours_of_redelivery_is_landed_once(
    open_site: OpenSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = open_site(redelivery_hours=1)
    put(site, letter(line(notification("m1")), when=times.now() - timedelta(hours=60)))

    def killed(*_: object) -> int:
        raise KeyboardInterrupt

    clock = times.now
    with monkeypatch.context() as patched:
        patched.setattr("meterhouse.collection.dead_letter_retry.remove", killed)
        patched.setattr(times, "now", lambda: clock() - timedelta(hours=50))
        with pytest.raises(KeyboardInterrupt):
            retry(site, ALL)
    done = retry(site, ALL)
    assert (done.landed, done.known, done.removed) == (0, 1, 1)
    assert message_ids(site) == ["m1"]


def test_a_retry_that_is_killed_between_landing_and_removal_is_completed_by_the_next(site: Site) -> None:
    put(site, letter(line(notification("m1"))), letter(line(notification("m2"))), letter())
    script = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from meterhouse.collection import dead_letter_retry\n"
        "from meterhouse.dead_letters import Selection\n"
        "from meterhouse.settings import read_settings\n"
        "from meterhouse.site import Site\n"
        "dead_letter_retry.remove = lambda *_: os.kill(os.getpid(), signal.SIGKILL)\n"
        "dead_letter_retry.retry(Site.open(read_settings(home=Path(sys.argv[1]))), Selection())\n"
    )
    ended = subprocess.run([sys.executable, "-c", script, str(site.settings.home_path)], timeout=120)
    assert ended.returncode == -9
    assert message_ids(site) == ["m1", "m2"]
    assert count(site, "dead_letters") == 3
    done = retry(site, ALL)
    assert (done.letters, done.landed, done.known, done.removed, done.kept) == (3, 0, 2, 2, 1)
    assert message_ids(site) == ["m1", "m2"]
    assert bodies(site) == [b"junk"]


def test_retries_and_purges_do_not_run_at_the_same_time(site: Site) -> None:
    put(site, letter())
    with site.warehouse.lease(dead_letters.LEASE):
        for work in (retry, purge):
            with pytest.raises(AlreadyRunning, match="'dead_letters' is already running"):
                work(site, ALL)
    assert count(site, "dead_letters") == 1


def test_letters_are_retried_in_bounded_pieces(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("meterhouse.collection.dead_letter_retry._AT_ONCE", 3)
    put(site, *[letter(line(notification(f"m{n}")) if n % 2 else b"junk %d" % n) for n in range(10)])
    told: list[tuple[int, int]] = []
    done = retry(site, ALL, progress=lambda at, total: told.append((at, total)))
    assert (done.landed, done.removed, done.kept) == (5, 5, 5)
    assert told == [(3, 10), (6, 10), (9, 10), (10, 10)]
    assert message_ids(site) == ["m1", "m3", "m5", "m7", "m9"]


def test_long_letters_are_retried_in_pieces_of_bounded_bytes(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dead_letter_retry, "_BYTES_AT_ONCE", 1000)
    sizes: list[int] = []
    land = Landing.land
    monkeypatch.setattr(
        Landing, "land", lambda self, raws: sizes.append(sum(len(raw.body) for raw in raws)) or land(self, raws)
    )
    put(site, *(letter(json.dumps(notification(f"m{n}", x="x" * 300)).encode()) for n in range(7)))
    assert retry(site, Selection()).landed == 7
    assert len(sizes) == 7
    assert count(site, "dead_letters") == 0


def test_nothing_is_retried_if_there_are_no_letters(site: Site) -> None:
    done = retry(site, ALL)
    assert (done.letters, done.landed, done.removed, done.kept) == (0, 0, 0, 0)


# -- polled samples with a wrong signature ----------------------------------------------------------------------


def signed(sample: dict[str, Any]) -> dict[str, Any]:
    return {**sample, "message_signature": signature(sample, SECRET)}


def rejecting(open_site: OpenSite, samples: Sequence[dict[str, Any]]) -> Site:
    """A site with another secret than the agents."""
    site = open_site(telemetry_secret="not theirs")
    drop(site.settings.spool, "a.jsonl", [batch_of("p1", samples)])
    collect(site)
    assert convert(site).unsigned == len(samples)
    return site


def reopened(open_site: OpenSite, site: Site, secret: str) -> Site:
    return open_site(home=site.settings.home_path, telemetry_secret=secret)


def in_lake(site: Site) -> list[tuple[float, str]]:
    found = rows(site, "samples", "volume, resource_id, series_id, sample_id, timestamp")
    assert len({(row["series_id"], row["sample_id"], row["timestamp"]) for row in found}) == len(found)
    return sorted((row["volume"], row["resource_id"]) for row in found)


def test_samples_are_landed_once_when_the_secret_is_right(open_site: OpenSite) -> None:
    forged = {**signed(polled(1.0)), "counter_volume": 9.0}
    no_id = {key: value for key, value in polled(3.0).items() if key != "message_id"}
    site = rejecting(open_site, [signed(polled(2.0)), forged, signed(no_id), signed(no_id)])
    assert retry(site, ALL).kept == 4
    assert (count(site, "notifications"), count(site, "dead_letters")) == (1, 4)
    site = reopened(open_site, site, SECRET)
    done = retry(site, ALL)
    assert (done.letters, done.landed, done.removed, done.kept) == (4, 3, 3, 1)
    assert dict(done.reasons) == {"the signature of the polled sample is wrong": 1}
    made = convert(site)
    assert (made.samples, made.unsigned, made.errors) == (3, 0, 0)
    assert in_lake(site) == [(2.0, "r1"), (3.0, "r1"), (3.0, "r1")]
    assert (retry(site, ALL).landed, convert(site).samples) == (0, 0)
    assert count(site, "dead_letters") == 1


def test_samples_are_landed_when_no_secret_is_set(open_site: OpenSite) -> None:
    nan = polled(float("nan"), resource="r2")
    site = reopened(open_site, rejecting(open_site, [polled(1.0), polled(2.0), nan]), "")
    done = retry(site, Selection(reason="*signature of polled sample*"))
    assert (done.landed, done.removed, done.kept) == (3, 3, 0)
    assert convert(site).samples == 3
    assert [resource for _, resource in in_lake(site)] == ["r1", "r1", "r2"]
    assert [row["message_id"][:12] for row in rows(site, "notifications") if row["message_id"] != "p1"] == [
        "dead-letter:"
    ] * 3


def test_a_sample_that_was_landed_before_a_kill_is_landed_once(
    open_site: OpenSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = reopened(open_site, rejecting(open_site, [signed(polled(1.0)), signed(polled(2.0))]), SECRET)

    def killed(*_: object) -> int:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("meterhouse.collection.dead_letter_retry.remove", killed)
        with pytest.raises(KeyboardInterrupt):
            retry(site, ALL)
    assert convert(site).samples == 2
    done = retry(site, ALL)
    assert (done.landed, done.known, done.removed) == (0, 2, 2)
    assert convert(site).samples == 0
    assert [volume for volume, _ in in_lake(site)] == [1.0, 2.0]


def test_a_sample_that_came_as_a_whole_message_is_not_a_notification(open_site: OpenSite) -> None:
    """A sender on the bus cannot inject a sample by sending what looks like the dead letter of a sample."""
    site = open_site()
    put(site, letter(line(polled(1.0))), letter(line("no sample"), place="m:0"), letter(b"[", place="m:0"))
    done = retry(site, ALL)
    assert (done.landed, done.kept) == (0, 3)
    assert sorted(reason.partition(":")[0] for reason in done.reasons) == [
        "no event_type",
        "the polled sample is no JSON object",
        "the polled sample is not JSON",
    ]


# -- commands -------------------------------------------------------------------------------------------------


@pytest.fixture
def run(tmp_path: Path, migrated: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Calls a command on the test's embedded site; returns click's result."""
    monkeypatch.setenv("METERHOUSE_HOME", str(tmp_path))
    shutil.copy(migrated, tmp_path / "warehouse.db")

    def call(*arguments: str) -> Result:
        own_settings.settings.cache_clear()
        return CliRunner().invoke(cli.cli, ["dead-letters", *arguments])

    yield call
    own_settings.settings.cache_clear()


@pytest.fixture
def here(tmp_path: Path, run: Any) -> Site:
    """The site that `run` uses."""
    return Site.open(read_settings(home=tmp_path))


def printed(result: Result) -> list[dict[str, Any]]:
    assert result.exit_code == 0, result.output
    return [json.loads(each) for each in result.stdout.splitlines()]


def test_the_group_alone_lists_and_has_the_options_of_list(run: Any, here: Site) -> None:
    put(here, letter(b"a"), letter(b"b", queue="r", when=at(1)), letter(b"c", when=at(2), headers='{"x": 1}'))
    assert [row["body"] for row in printed(run("--json"))] == ["c", "b", "a"]
    assert [row["body"] for row in printed(run("--limit", "1", "--json"))] == ["c"]
    assert printed(run("list", "--json")) == printed(run("--json"))
    assert [row["body"] for row in printed(run("list", "--queue", "q*", "--to", times.text(at(2)), "--json"))] == ["a"]
    (shown,) = printed(run("--from", times.text(at(2)), "--json"))
    wanted = letter(b"c").letter_id
    assert shown == {
        "id": hex_id(wanted),
        "letter_id": wanted,
        "received_at": times.text(at(2)),
        "queue": "q",
        "reason": "not JSON",
        "headers": '{"x": 1}',
        "body": "c",
    }
    assert rows(here, "dead_letters", "body", where=f"printf('%016x', letter_id) = '{shown['id']}'") == [{"body": b"c"}]
    table = run().stdout.splitlines()
    assert table[0].split() == ["id", "received_at", "queue", "reason", "headers", "body"]
    assert len(table) == 4
    assert table[1].startswith(shown["id"])
    assert "list" in run("--help").stdout


def test_a_listed_letter_cannot_control_the_terminal(run: Any, here: Site) -> None:
    hostile = "\x1b[2J\u202e\n"
    put(here, letter(hostile.encode() + b"\xff" * 500, queue=hostile, reason=hostile, headers=json.dumps(hostile)))
    found = run()
    assert found.exit_code == 0
    assert len(found.stdout.splitlines()) == 2
    assert all(each.isprintable() for each in found.stdout.splitlines())
    assert "\\x1b[2J" in found.stdout


@given(st.lists(st.binary(max_size=60), min_size=5, max_size=30))
@settings(GARBAGE, max_examples=4)
def test_any_bytes_are_listed_and_can_be_purged(run: Any, here: Site, given: list[bytes]) -> None:
    put(here, *[letter(body, redelivered=False) for body in given], letter(b"stays", queue="r"))
    found = printed(run("list", "--queue", "q", "--json"))
    back = [row["body"].encode() if "body" in row else base64.b64decode(row["body_base64"]) for row in found]
    assert sorted(back) == sorted(given)
    tried = retry(here, ALL)
    assert (tried.landed, tried.kept) == (0, len(given) + 1)
    (done,) = printed(run("purge", *{row["id"] for row in found}, "--json"))
    assert done["letters"] == len(given)
    assert bodies(here) == [b"stays"]
    purge(here, ALL)


def test_retry_takes_letters_through_to_events(run: Any, here: Site) -> None:
    put(here, letter(line(notification("m1"))), letter(line(notification("m2"))), letter(b"junk", queue="r"))
    one, two = (row for row in printed(run("--json")) if row["queue"] == "q")
    (done,) = printed(run("retry", one["id"], "--json"))
    assert {name: done[name] for name in ("letters", "landed", "removed", "kept", "events", "reasons")} == {
        "letters": 1,
        "landed": 1,
        "removed": 1,
        "kept": 0,
        "events": 1,
        "reasons": {},
    }
    (done,) = printed(run("retry", "--all", "--json"))
    assert (done["landed"], done["kept"], done["events"]) == (1, 1, 1)
    assert list(done["reasons"].values()) == [1]
    assert count(here, "events") == 2
    gone = run("retry", one["id"], two["id"])
    assert isinstance(gone.exception, UnknownName)


def test_a_retry_leaves_the_conversion_to_a_running_collector(
    run: Any, here: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("meterhouse.cli.dead_letters.WAIT_SECONDS", 0.1)
    put(here, letter(line(notification("m1"))))
    with here.warehouse.lease("convert"):
        done = run("retry", "--all", "--json")
    assert done.exit_code == 0
    assert "'convert' is already running" in done.stderr
    assert (json.loads(done.stdout)["landed"], json.loads(done.stdout)["removed"]) == (1, 1)
    assert convert(here).events == 1


def test_purge_reports_what_it_did_and_a_dry_run_what_it_would_do(run: Any, here: Site) -> None:
    put(here, letter(b"a"), letter(b"b", when=at(1)))
    (would,) = printed(run("purge", "--all", "--dry-run", "--json"))
    wanted = {"letters": 2, "bytes": 2, "oldest": times.text(at()), "newest": times.text(at(1))}
    assert would == {**wanted, "dry_run": True}
    assert count(here, "dead_letters") == 2
    assert printed(run("purge", "--reason", "not *", "--json")) == [{**wanted, "dry_run": False}]
    assert count(here, "dead_letters") == 0


@pytest.mark.parametrize("command", ["retry", "purge"])
@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        ([], "give IDs, --queue, --reason, --from or --to; or --all"),
        (["--all", "--queue", "q"], "give IDs, --queue, --reason, --from or --to; or --all"),
        (["-5"], "No such option"),
        (["7"], "'7' is not 16 hex digits"),
        (["00000000000000zz"], "is not 16 hex digits"),
        (["--from", "soon"], "'soon' is not a time"),
    ],
)
def test_an_empty_selection_is_a_usage_error(
    run: Any, here: Site, command: str, arguments: list[str], what: str
) -> None:
    put(here, letter())
    done = run(command, *arguments)
    assert done.exit_code == 2
    assert what in done.stderr
    assert count(here, "dead_letters") == 1


@pytest.mark.parametrize("command", ["retry", "purge"])
def test_an_unknown_id_stops_the_whole_command(run: Any, here: Site, command: str) -> None:
    put(here, letter(line(notification("m1"))))
    (known,) = printed(run("--json"))
    done = run(command, known["id"], "0123456789abcdef")
    assert str(done.exception) == "unknown dead letter '0123456789abcdef'. `meterhouse dead-letters` lists them"
    assert (count(here, "dead_letters"), count(here, "notifications")) == (1, 0)
