"""The index of landed messages agrees with the lake, whatever happened to it, and a batch only costs what is new."""

import logging
import os
import shutil
from collections.abc import Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from builders import NOON, drop, notification
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from meterhouse import times
from meterhouse.archive.seal import archive
from meterhouse.catalog import catalog
from meterhouse.collection import landed
from meterhouse.collection.collect import collect
from meterhouse.collection.landed import Landed
from meterhouse.conversion.step import convert
from meterhouse.site import Site
from meterhouse.stores.lake import REOPENED, Lake
from meterhouse.stores.lake_tables import NOTIFICATIONS

HOURS = 2
HOUR = times.arrival_hour(NOON)


class Clock:
    """The time, which tests move."""

    def __init__(self) -> None:
        self.now = NOON

    @property
    def hour(self) -> str:
        return times.arrival_hour(self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    moved = Clock()
    monkeypatch.setattr(times, "now", lambda: moved.now)
    return moved


@pytest.fixture
def lake(tmp_path: Path) -> Lake:
    return Lake(str(tmp_path / "lake"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def read(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The data files whose ids are read from the lake, as they are read."""
    files: list[str] = []
    plain = Landed._read

    def counted(self: Landed, wanted: list[str]) -> Any:
        files.extend(wanted)
        return plain(self, wanted)

    monkeypatch.setattr(Landed, "_read", counted)
    return files


def land(lake: Lake, ids: Sequence[str], hour: str = HOUR) -> str:
    """Commit one data file; return its path."""
    blank = {"event_type": "e", "priority": "info", "received_at": NOON, "source": "s", "body": "{}"}
    rows = [{"arrival_hour": hour, "message_id": each, **blank} for each in ids]
    before = paths(lake)
    lake.append("notifications", pa.Table.from_pylist(rows, schema=NOTIFICATIONS))
    (path,) = paths(lake) - before
    return path


def paths(lake: Lake) -> set[str]:
    return set(lake.actions("notifications")["path"].to_pylist())


def compact(lake: Lake, hour: str = HOUR) -> None:
    """Replace the hour's files with one that has the same rows, in a commit that changes no data."""
    lake.table("notifications").optimize.compact(partition_filters=[("arrival_hour", "=", hour)])


def known(index: Landed, ids: Sequence[str]) -> list[str]:
    answer = index.known(ids)
    assert answer.shape == (len(ids),)
    return [each for each, is_known in zip(ids, answer.tolist(), strict=True) if is_known]


def cache_files(folder: Path) -> list[Path]:
    return sorted(folder.glob("*/*.ids"))


def test_what_is_landed_is_known_and_nothing_else(lake: Lake, folder: Path, clock: Clock) -> None:
    index = Landed(lake, folder, HOURS)
    assert index.version == -1
    assert known(index, []) == known(index, ["a"]) == []
    land(lake, ["a", "ü", ""])
    assert known(index, ["b", "ü", "a", "a", "A", ""]) == ["ü", "a", "a", ""]
    assert index.version == lake.version("notifications") == 1


def test_an_added_file_is_known_without_being_read(lake: Lake, folder: Path, clock: Clock, read: list[str]) -> None:
    index = Landed(lake, folder, HOURS)
    for batch in (["a", "b"], ["c"], ["d", "e"]):
        assert known(index, batch) == []
        index.add(land(lake, batch), batch, HOUR)
    assert known(index, list("abcdefg")) == list("abcde")
    assert read == []


def test_what_was_added_but_never_committed_is_not_known(lake: Lake, folder: Path, clock: Clock) -> None:
    index = Landed(lake, folder, HOURS)
    index.known([])
    index.add(f"arrival_hour={HOUR}/never.parquet", ["a"], HOUR)
    index.save()
    land(lake, ["b"])
    assert known(index, ["a", "b"]) == ["b"]
    assert known(Landed(lake, folder, HOURS), ["a", "b"]) == ["b"]


def test_two_machines_see_what_the_other_landed(lake: Lake, tmp_path: Path, clock: Clock, read: list[str]) -> None:
    one, other = (Landed(Lake(lake.url), tmp_path / name, HOURS) for name in ("one", "other"))
    for index in (one, other):
        index.known([])
    mine = land(lake, ["a"])
    one.add(mine, ["a"], HOUR)
    assert known(other, ["a", "b"]) == ["a"]
    theirs = land(lake, ["b"])
    other.add(theirs, ["b"], HOUR)
    assert known(one, ["a", "b"]) == ["a", "b"]
    assert read == [mine, theirs]


def test_the_next_process_reads_only_what_the_cache_does_not_name(
    lake: Lake, folder: Path, clock: Clock, read: list[str]
) -> None:
    land(lake, ["a", "b"])
    first = Landed(lake, folder, HOURS)
    assert known(first, ["a"]) == ["a"]
    first.save()
    read.clear()
    later = land(lake, ["c"])
    assert known(Landed(lake, folder, HOURS), list("abcd")) == list("abc")
    assert read == [later]


def test_an_id_is_known_for_the_number_of_hours(lake: Lake, folder: Path, clock: Clock) -> None:
    index = Landed(lake, folder, HOURS)
    path = land(lake, ["a"])
    assert known(index, ["a"]) == ["a"]
    index.save()
    for minutes, expected in ((59, ["a"]), (60 * HOURS, ["a"]), (60 * HOURS + 59, ["a"]), (60 * (HOURS + 1), [])):
        clock.now = NOON + timedelta(minutes=minutes)
        assert known(index, ["a"]) == known(Landed(lake, folder, HOURS), ["a"]) == expected
    assert cache_files(folder) == []
    index.add(path, ["a"], HOUR)
    assert known(index, ["a"]) == []


def test_a_clock_that_is_set_back_brings_the_hour_back(lake: Lake, folder: Path, clock: Clock) -> None:
    index = Landed(lake, folder, HOURS)
    land(lake, ["a"])
    clock.now += timedelta(hours=HOURS + 1)
    assert known(index, ["a"]) == []
    clock.now = NOON
    assert known(index, ["a"]) == ["a"]


def test_a_process_that_sees_a_seal_does_not_read_the_hour_again(
    lake: Lake, folder: Path, clock: Clock, read: list[str]
) -> None:
    index = Landed(lake, folder, HOURS)
    land(lake, ["a"])
    land(lake, ["b"])
    index.known([])
    compact(lake)
    last = land(lake, ["c"])
    assert len(paths(lake)) == 2
    read.clear()
    assert known(index, list("abcd")) == list("abc")
    assert read == [last]
    index.save()
    read.clear()
    assert known(Landed(lake, folder, HOURS), list("abcd")) == list("abc")
    assert read == []


def test_an_hour_sealed_with_files_not_seen_yet_is_read(lake: Lake, folder: Path, clock: Clock) -> None:
    index = Landed(lake, folder, HOURS)
    land(lake, ["a"])
    index.known([])
    land(lake, ["b"])
    compact(lake)
    assert known(index, list("abc")) == list("ab")


def test_archiving_does_not_change_what_is_known(site: Site, folder: Path) -> None:
    drop(site.settings.spool, "a.jsonl", [notification(f"m{n}") for n in range(5)])
    collect(site)
    index = Landed(site.lake, folder, 48)
    ids = [f"m{n}" for n in range(6)]
    assert known(index, ids) == ids[:5]
    index.save()
    convert(site)
    catalog(site)
    before = paths(site.lake)
    archive(site, times.now().date())
    assert not before & paths(site.lake)
    for opened in (index, Landed(site.lake, folder, 48)):
        assert known(opened, ids) == ids[:5]


@pytest.mark.parametrize("saved", [False, True])
def test_what_is_deleted_from_the_lake_is_new(lake: Lake, folder: Path, clock: Clock, saved: bool) -> None:
    index = Landed(lake, folder, HOURS)
    land(lake, ["a", "b"])
    land(lake, ["c"])
    index.known([])
    if saved:
        index.save()
    lake.table("notifications").delete("message_id IN ('a', 'c')")
    assert known(index, list("abc")) == ["b"]
    assert known(Landed(lake, folder, HOURS), list("abc")) == ["b"]
    lake.table("notifications").restore(2)
    assert known(index, list("abc")) == list("abc")


def test_a_recreated_lake_is_not_mistaken_for_the_old_one(lake: Lake, folder: Path, clock: Clock) -> None:
    land(lake, ["a"])
    index = Landed(lake, folder, HOURS)
    index.known([])
    index.save()
    shutil.rmtree(lake.url)
    assert known(Landed(Lake(lake.url), folder, HOURS), ["a"]) == []
    clock.now += timedelta(hours=HOURS + 1)
    Landed(Lake(lake.url), folder, HOURS).known([])
    assert cache_files(folder) == []


def test_a_damaged_cache_is_read_from_the_lake_again(lake: Lake, folder: Path, clock: Clock, read: list[str]) -> None:
    ids = [f"m{n}" for n in range(300)]
    path = land(lake, ids)
    index = Landed(lake, folder, HOURS)
    index.known([])
    index.save()
    (cache,) = cache_files(folder)
    whole = cache.read_bytes()
    read.clear()
    assert known(Landed(lake, folder, HOURS), ids) == ids
    assert read == []
    flipped = [whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :] for at in range(0, len(whole), 97)]
    cut = [whole[:length] for length in range(0, len(whole), 499)]
    zeros = [bytes(len(whole)), whole[:4096] + bytes(len(whole) - 4096)]
    for content in (*flipped, *cut, *zeros, whole + b"x", b"garbage"):
        cache.write_bytes(content)
        read.clear()
        assert known(Landed(lake, folder, HOURS), ids) == ids
        assert read == [path]


def test_a_cache_that_cannot_be_written_is_logged_once_and_stops_nothing(
    lake: Lake, folder: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    folder.write_text("a file where the folder should be")
    index = Landed(lake, folder, HOURS)
    with caplog.at_level(logging.WARNING):
        for batch in (["a"], ["b"]):
            index.known(batch)
            index.add(land(lake, batch), batch, HOUR)
            index.save()
    assert known(index, list("abc")) == list("ab")
    assert [record.name for record in caplog.records] == ["meterhouse.collection.landed"]


def test_a_disk_that_is_full_leaves_no_part_behind(
    lake: Lake, folder: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = Landed(lake, folder, HOURS)
    land(lake, ["a"])
    index.known([])

    def fails(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr(Path, "replace", fails)
        index.save()
    assert list(folder.glob("*/*")) == []
    index.save()
    assert len(cache_files(folder)) == 1
    assert known(Landed(lake, folder, HOURS), ["a", "b"]) == ["a"]


def test_what_a_kill_left_behind_is_tidied_up(lake: Lake, folder: Path, clock: Clock) -> None:
    land(lake, ["a"])
    index = Landed(lake, folder, HOURS)
    index.known([])
    index.save()
    (cache,) = cache_files(folder)
    old, young = (cache.with_name(f"{HOUR}.{name}.part") for name in ("old", "young"))
    for part in (old, young):
        part.write_bytes(b"half")
    os.utime(old, (0, 0))
    Landed(lake, folder, HOURS).known([])
    assert sorted(cache.parent.iterdir()) == sorted([cache, young])


def test_a_failed_read_is_repeated_by_the_next_call(
    lake: Lake, folder: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = Landed(lake, folder, HOURS)
    land(lake, ["a"])
    index.known([])
    land(lake, ["b"])
    compact(lake)
    land(lake, ["c"])

    def fails(*_: object) -> None:
        raise OSError("unreachable")

    with monkeypatch.context() as broken:
        broken.setattr(Landed, "_read", fails)
        with pytest.raises(OSError, match="unreachable"):
            index.known([])
    assert known(index, list("abcd")) == list("abc")


def test_a_deleted_log_does_not_matter(lake: Lake, folder: Path, clock: Clock) -> None:
    index = Landed(lake, folder, HOURS)
    index.known([])
    for name in "abc":
        land(lake, [name])
    lake.table("notifications").create_checkpoint()
    for version in range(3):
        (Path(lake.uri("notifications")) / "_delta_log" / f"{version:020d}.json").unlink()
    assert known(index, list("abcd")) == list("abc")
    assert index.version == 3


def test_a_cache_that_is_newer_than_the_table_was_at_the_start_is_not_thrown_away(
    lake: Lake, folder: Path, clock: Clock, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Landed(Lake(lake.url), folder, HOURS)
    other.known([])
    plain = Landed._open

    def overtaken(self: Landed, identity: str, since: str) -> None:
        other.add(land(Lake(lake.url), ["a"]), ["a"], HOUR)
        other.save()
        plain(self, identity, since)

    monkeypatch.setattr(Landed, "_open", overtaken)
    assert known(Landed(lake, folder, HOURS), ["a", "b"]) == ["a"]
    assert read == []


def test_it_works_on_any_lake(any_site: Site, folder: Path, read: list[str]) -> None:
    hour = times.arrival_hour(times.now())
    index = Landed(any_site.lake, folder, HOURS)
    index.known([])
    one, two = (land(any_site.lake, ids, hour) for ids in (["a"], ["b", "c"]))
    assert known(index, list("abcd")) == list("abc")
    assert read == sorted([one, two])
    compact(any_site.lake, hour)
    assert known(index, list("abcd")) == list("abc")
    assert len(read) == 2
    assert known(Landed(any_site.lake, folder.with_name("other"), HOURS), list("abcd")) == list("abc")


def test_ids_that_share_half_a_hash_are_distinguished() -> None:
    high = np.array([5, 5, 5, 5, 9, 2**64 - 1], np.uint64)
    low = np.array([3, 1, 2, 1, 1, 7], np.uint64)
    run = landed._run(high, low)
    asked = [(5, 1), (5, 2), (5, 3), (5, 4), (8, 1), (9, 1), (9, 2), (2**64 - 1, 7), (2**64 - 1, 8)]
    wanted_high, wanted_low = (np.array(half, np.uint64) for half in zip(*asked, strict=True))
    every = np.full(len(asked), 0, np.uint64)  # all pass the filter
    expected = [True, True, True, False, False, True, False, True, False]
    assert run.find(wanted_high, wanted_low, every).tolist() == expected
    assert run.find(wanted_high, wanted_low, landed._bits(wanted_low)).tolist() == expected


@pytest.mark.parametrize("count", [0, 1, 7, 1000, (1 << 20) + 17, 3 << 20])
def test_a_cache_file_returns_the_ids_of_all_runs(tmp_path: Path, count: int) -> None:
    random = np.random.default_rng(count)
    high, low = (random.integers(0, 1 << 64, count, np.uint64) for _ in range(2))
    cut = count // 3
    runs = []
    for part in (slice(0, cut), slice(cut, count)):
        order = np.argsort(high[part])
        runs.append(landed._run(high[part][order], low[part][order]))
    landed._store(tmp_path / "x.ids", landed._Hour({"a\nb", "ü"}, None, runs))
    hour = landed._load(tmp_path / "x.ids")
    assert hour is not None
    assert hour.stored is not None
    assert hour.names == {"a\nb", "ü"}
    order = np.argsort(high)
    assert np.array_equal(hour.stored.high, high[order])
    assert np.array_equal(hour.stored.low, low[order])
    assert hour.stored.find(high[order], low[order], landed._bits(low[order])).all()
    other = np.sort(random.integers(0, 1 << 64, 10_000, np.uint64))
    bits = landed._bits(other)
    assert not hour.stored.find(other, other, bits).any()
    passed = (hour.stored.filter[landed._slots(other, len(hour.stored.filter))] & bits) == bits
    assert passed.sum() < 200  # 2 of 100
    assert not hour.stored.high.flags.owndata  # mapped, not read into memory


ID = st.integers(0, 40).map(lambda n: f"m{n}")
STEP = st.one_of(
    st.tuples(st.just("batch"), st.integers(0, 1), st.lists(ID, max_size=8)),
    st.tuples(st.just("unnoted"), st.integers(0, 1), st.lists(ID, min_size=1, max_size=8)),
    st.tuples(st.sampled_from(["kill", "save", "lose", "damage"]), st.integers(0, 1), st.integers(0, 1 << 30)),
    st.tuples(st.sampled_from(["seal", "delete", "hour"]), st.just(0), st.integers(0, HOURS)),
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(STEP, max_size=14))
def test_two_machines_answer_like_a_set_whatever_happens(
    tmp_path_factory: pytest.TempPathFactory, clock: Clock, steps: list[tuple[str, int, Any]]
) -> None:
    home = tmp_path_factory.mktemp("machines")
    clock.now = NOON
    truth: dict[str, list[str]] = {}
    lake = Lake(str(home / "lake"))
    folders = [home / "cache-0", home / "cache-1"]
    machines = [Landed(Lake(lake.url), folder, HOURS) for folder in folders]
    everything = [f"m{n}" for n in range(41)]

    def expected(ids: Sequence[str]) -> list[str]:
        since = times.arrival_hour(clock.now - timedelta(hours=HOURS))
        there = {each for hour, held in truth.items() if hour >= since for each in held}
        return [each for each in ids if each in there]

    for what, at, value in steps:
        if what in ("batch", "unnoted"):
            was_known = known(machines[at], value)
            assert was_known == expected(value)
            fresh = sorted(set(value) - set(was_known))
            if fresh:
                path = land(lake, fresh, clock.hour)
                truth.setdefault(clock.hour, []).extend(fresh)
                if what == "batch":
                    machines[at].add(path, fresh, clock.hour)
                else:  # killed after the commit
                    machines[at] = Landed(Lake(lake.url), folders[at], HOURS)
        elif what == "kill":
            machines[at] = Landed(Lake(lake.url), folders[at], HOURS)
        elif what == "save":
            machines[at].save()
        elif what == "lose":
            shutil.rmtree(folders[at], ignore_errors=True)
        elif what == "damage":
            for cache in cache_files(folders[at]):
                content = cache.read_bytes()
                half = cache.with_name("half")
                half.write_bytes(content[: value % len(content)])
                half.replace(cache)
        elif what == "hour":
            clock.now += timedelta(hours=1)
        else:
            hours = sorted(truth)[: value + 1]
            if hours and what == "seal":
                compact(lake, hours[-1])
            elif hours:
                lake.table("notifications").delete(f"arrival_hour = '{hours[-1]}' AND message_id < 'm2'")
                truth[hours[-1]] = [each for each in truth[hours[-1]] if each >= "m2"]
    for machine in (*machines, *(Landed(Lake(lake.url), folder, HOURS) for folder in folders)):
        assert known(machine, everything) == expected(everything)
        assert machine.version == lake.version("notifications")


def test_a_batch_costs_the_same_after_much_history(
    lake: Lake, folder: Path, clock: Clock, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    commits: list[str] = []
    moved: list[int] = []
    plain_get, plain_joined = Lake.get, landed._joined
    monkeypatch.setattr(Lake, "get", lambda self, path: commits.append(path) or plain_get(self, path))

    def joined(runs: Any) -> Any:
        moved.append(sum(len(run.high) for run in runs))
        return plain_joined(runs)

    monkeypatch.setattr(landed, "_joined", joined)
    index = Landed(lake, folder, HOURS)
    for batch in range(64):
        ids = [f"{batch}-{n}" for n in range(100)]
        assert not index.known(ids).any()
        index.add(land(lake, ids), ids, HOUR)
    assert read == []
    # Each commit is read once, by the next batch, and one whenever the table is opened again.
    assert sum(path.endswith(".json") for path in commits) == 63 + 64 // REOPENED
    assert sum(moved) <= 64 * 100 * 6  # each id is moved at most log2(64) times
    assert len(index._index[HOUR].runs()) <= 7
    index.save()
    reopened = Lake(lake.url)
    reopened.version("notifications")  # an opened table's last commit is read
    commits.clear()
    other = Landed(reopened, folder, HOURS)
    assert other.known([f"{batch}-0" for batch in range(64)]).all()
    foreign = land(lake, ["foreign"])
    assert known(other, ["foreign", "none"]) == ["foreign"]
    assert known(other, ["foreign", "none"]) == ["foreign"]
    assert read == [foreign]
    assert len(commits) == 1


def test_the_cache_is_written_when_the_hour_turns_and_when_much_waits(
    lake: Lake, folder: Path, clock: Clock, read: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(landed, "_MAX_WAITING_IDS", 10)
    index = Landed(lake, folder, HOURS)

    def batch(names: Sequence[str]) -> str:
        index.known(names)
        path = land(lake, names, clock.hour)
        index.add(path, names, clock.hour)
        return path

    batch([f"a{n}" for n in range(6)])
    assert cache_files(folder) == []
    batch([f"b{n}" for n in range(6)])
    assert [path.stem for path in cache_files(folder)] == [HOUR]
    assert index._index[HOUR].fresh == []
    unsaved = batch(["c"])
    assert known(Landed(lake, folder, HOURS), ["a0", "b5", "c", "d"]) == ["a0", "b5", "c"]
    assert read == [unsaved]
    clock.now += timedelta(hours=1)
    last = batch(["d"])
    read.clear()
    assert known(Landed(lake, folder, HOURS), ["a0", "b5", "c", "d"]) == ["a0", "b5", "c", "d"]
    assert read == [last]


def test_a_process_maps_what_another_wrote_of_the_same_files(lake: Lake, folder: Path, clock: Clock) -> None:
    land(lake, ["a"])
    one, other = (Landed(Lake(lake.url), folder, HOURS) for _ in range(2))
    for index in (one, other):
        index.known([])
    one.save()
    (cache,) = cache_files(folder)
    written = cache.stat().st_ino
    other.save()
    assert cache.stat().st_ino == written
    assert known(other, ["a", "b"]) == ["a"]
