"""Erasing a user: nothing of the person is left anywhere, and no figure changes."""

import json
import shutil
from operator import itemgetter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from builders import NOON, at, count, drop, polled, polling, process, roll_up, rows, warehouse_rows
from conftest import OpenSite
from erasures import ANA, BOB, MAIL, NAME, OTHERS, erase_ana, figures, fill, messages
from leftovers import left
from usage_messages import audit, created, land

from meterhouse import times
from meterhouse.archive.seal import archive, manifest
from meterhouse.catalog import mark_for_recompute, snapshot
from meterhouse.collection.collect import collect
from meterhouse.collection.load import load
from meterhouse.conversion.signatures import signature
from meterhouse.definitions.resources import load as load_resources
from meterhouse.definitions.units import load as load_units
from meterhouse.erasure.again import again
from meterhouse.erasure.erase import erase, preview
from meterhouse.erasure.recorded import proposed, recorded
from meterhouse.errors import UsageError
from meterhouse.mending.mend import mend
from meterhouse.recompute import backfill
from meterhouse.rollups import kept_day
from meterhouse.site import Site
from meterhouse.stores.lake import Lake
from meterhouse.stores.lake_erasures import publish
from meterhouse.stores.lake_tables import EVIDENCE, NOTIFICATIONS, TABLES
from meterhouse.stores.warehouse_tables import resource_periods
from meterhouse.usage.evidence import Extractor, Read
from meterhouse.usage.names import KEYSTONE, Seen, merge, names_at
from meterhouse.usage.names_sync import sync
from meterhouse.usage.periods import compute


@pytest.mark.parametrize(
    "any_site", ["embedded", pytest.param("postgres and s3", marks=pytest.mark.service)], indirect=True
)
def test_nothing_of_an_erased_user_is_left_and_no_figure_changes(
    any_site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site, clock = any_site, times.now
    with monkeypatch.context() as yesterday:
        yesterday.setattr(times, "now", lambda: clock() - times.DAY)
        fill(site)
    archive(site, (clock() - times.DAY).date())
    drop(site.settings.spool, "late.jsonl", messages(1200)[:3])
    drop(site.settings.spool, "broken.jsonl.corrupt", [f'{{"user": {{"id": "{ANA}", "name": "{NAME}"'.encode()])
    other = Site.open(site.settings)  # as another process, which has all tables open
    for name in TABLES:
        other.lake.version(name)
    before, others = figures(site), left(site, sorted(OTHERS))
    spill = site.settings.home_path / "spill"
    kept_day.save(spill, clock().date(), [(1, ("a file",))], {"series_id": [1]})
    seen = preview(site, proposed(site, ANA, reason="r", author="a"), ANA, (NAME, MAIL))
    assert left(site, [ANA])
    assert not recorded(site)
    assert list(spill.glob("day-*"))
    done = erase_ana(site)
    assert not list(spill.glob("day-*"))  # from ids of series, users are known again
    assert left(site, [ANA, NAME, MAIL, json.dumps(NAME)[1:-1], "198.51.100.9"]) == []
    assert figures(site) == before
    assert {place.rpartition(": ")[2] for place in others} == OTHERS
    assert {place.rpartition(": ")[2] for place in left(site, sorted(OTHERS))} == OTHERS
    (one,) = recorded(site)
    assert (one.reason, one.author, one.ended_at is not None) == ("asked on 1 May", "dpo", True)
    assert dict(one.rows) == dict(done.rows) == dict(seen.rows)
    expected = {"notifications": 24, "dead_letters": 1, "spool": 3, "corrections": 1, "runs": 1, "exports": 2}
    assert {name: one.rows[name] for name in expected} == expected
    for entry in manifest(site):  # the sealed days are sealed again
        assert set(entry["files"]) == site.lake.live(entry["table_name"])
    assert not snapshot(site).hours
    pseudonym = one.user.pseudonym
    assert count(site, "samples", f"user_id = '{pseudonym}'") == one.rows["samples"]
    assert count(site, "samples", f"resource_id = 'account/{pseudonym}'") == 24
    mark_for_recompute(site, "sample_quality", {NOON + n * times.HOUR for n in range(14)}, "a test")
    roll_up(site)  # the correction is of the pseudonym now
    assert figures(site) == before
    process(other)
    assert count(other, "samples", f"user_id = '{pseudonym}'") > one.rows["samples"]
    assert left(site, [ANA, NAME, MAIL]) == []
    other.warehouse.engine.dispose()


def test_what_comes_later_or_is_converted_again_is_of_the_same_pseudonym(site: Site) -> None:
    fill(site)
    erase_ana(site)
    tables = {name: rows(site, name) for name in ("samples", "events", "rollups")}
    for asset in ("samples", "events"):
        done = backfill(site, asset, NOON - 400 * times.DAY, times.now() + times.HOUR)
        assert done["changed_hours"] == 0
    assert {name: rows(site, name) for name in tables} == tables
    (pseudonym,) = (one.user.pseudonym for one in recorded(site))
    ana = count(site, "samples", f"user_id = '{pseudonym}'")
    drop(site.settings.spool, "again.jsonl", messages())
    drop(site.settings.spool, "late.jsonl", [*messages(1200), {"message_id": "no type again", "user_id": ANA}])
    process(site)
    assert count(site, "samples", f"user_id = '{pseudonym}'") == ana * 3 / 2
    assert left(site, [ANA, NAME, MAIL]) == []
    assert len(erase_ana(site).rows) == 0


def test_a_file_loaded_again_counts_once(site: Site, tmp_path: Path) -> None:
    file = tmp_path / "requests.csv"
    line = f"2026-11-20T10:00,5,delta,account/{ANA},shop,{ANA}"
    file.write_text("\n".join(["timestamp,volume,type,resource_id,project_id,user_id", line, line, line[:-1] + "0"]))
    load(site, [file])
    erase_ana(site)
    before = rows(site, "samples")
    done = load(site, [file])
    assert (done.samples, done.known) == (0, 3)
    assert rows(site, "samples") == before
    file.write_text(file.read_text().replace("10:00", "11:00"))
    load(site, [file])
    assert len({row["user_id"] for row in rows(site, "samples")}) == 2
    assert left(site, [ANA]) == []


def test_names_of_publishers_and_of_loaded_files_are_erased(site: Site, tmp_path: Path) -> None:
    file = tmp_path / f"of-{ANA}.csv"
    for name in ("before", "after"):
        message = polling(name, [polled(1.0)]) | {"publisher_id": f"app.{ANA}"}
        drop(site.settings.spool, "one.jsonl", [message])
        file.write_text(f"timestamp,volume,meter\n{name},5,m\n")
        load(site, [file])
        process(site)
        if name == "before":
            erase_ana(site)
        assert left(site, [ANA]) == []
    assert count(site, "notifications", "publisher_id LIKE 'app.erased-%'") == 2
    assert count(site, "dead_letters", "queue LIKE 'load:of-erased-%.csv:2'") == 2


def test_signed_samples_stay_signed(open_site: OpenSite) -> None:
    site = open_site(telemetry_secret="s")

    def signed(message_id: str) -> dict[str, Any]:
        batch = [polled(1.0, user_id=user, resource=f"r-{message_id}") for user in (ANA, BOB)]
        made = [sample | {"message_signature": signature(sample, "s")} for sample in batch]
        return polling(message_id, [*made, made[0] | {"counter_volume": 2.0, "message_id": "forged"}])

    drop(site.settings.spool, "one.jsonl", [signed("before")])
    process(site)
    erase_ana(site)
    drop(site.settings.spool, "two.jsonl", [signed("after")])
    process(site)
    assert count(site, "samples") == 4
    assert count(site, "dead_letters") == 2
    assert backfill(site, "samples", NOON, times.now() + times.HOUR)["changed_hours"] == 0
    assert left(site, [ANA]) == []


def test_what_a_backup_brings_back_is_erased_again(site: Site, tmp_path: Path) -> None:
    fill(site)
    before = figures(site)
    site.warehouse.engine.dispose()
    shutil.copytree(site.settings.home_path, tmp_path / "backup")
    erase_ana(site)
    listed = recorded(site)
    site.warehouse.engine.dispose()
    shutil.rmtree(site.settings.home_path)
    shutil.copytree(tmp_path / "backup", site.settings.home_path)
    restored = Site.open(site.settings)
    assert left(restored, [ANA])
    (done,) = again(restored, listed)
    assert done.erasure.user == listed[0].user
    assert left(restored, [ANA, "198.51.100.9"]) == []
    assert figures(restored) == before
    assert again(restored) == []
    restored.warehouse.engine.dispose()


@pytest.mark.parametrize(
    ("user_id", "texts", "said"),
    [
        ("p1", (), "too short"),
        ("12345", (), "cannot be told"),
        ("instance", (), "a word of the type of message 'compute.instance.exists'"),
        (ANA, ("cpu",), "a word of the meter 'cpu'"),
        (ANA, ("small",), "a word of the flavor 'm1.small'"),
    ],
)
def test_words_that_figures_are_told_by_are_not_erased(site: Site, user_id: str, texts: Any, said: str) -> None:
    drop(site.settings.spool, "one.jsonl", messages()[:3])
    process(site)
    compute(site)
    with pytest.raises(UsageError, match=said):
        erase(site, proposed(site, user_id, reason="r", author="a"), user_id, texts)
    assert recorded(site) == []


def test_two_series_do_not_become_one(site: Site) -> None:
    batch = [polled(volume, resource=resource, user_id=ANA) for resource, volume in (("vm/ana", 1.0), ("vm/anya", 5.0))]
    drop(site.settings.spool, "one.jsonl", [polling("m", batch)])
    process(site)
    roll_up(site)
    before = figures(site)
    one = proposed(site, ANA, reason="r", author="a")
    for attempt in (preview, erase):
        with pytest.raises(UsageError, match="resources 'vm/ana' and 'vm/anya' would become one"):
            attempt(site, one, ANA, ("ana", "anya"))
    assert recorded(site) == []
    erase(site, one, ANA, ("ana",))
    other = proposed(site, "anya", reason="r", author="a")
    erase(site, other, "anya")
    assert figures(site) == before
    assert left(site, [ANA, "anya"]) == []


def test_two_resources_do_not_become_one(site: Site) -> None:
    land(site, created("vm-ana", user_id=ANA), created("vm-anya", user_id=ANA))
    compute(site)
    one = proposed(site, ANA, reason="r", author="a")
    with pytest.raises(UsageError, match="resources 'vm-ana' and 'vm-anya' of type instance would become one"):
        erase(site, one, ANA, ("ana", "anya"))
    assert recorded(site) == []


def existed(site: Site) -> list[Any]:
    columns = ", ".join(column.name for column in resource_periods.columns if column.name != "digest")
    return warehouse_rows(site, f"SELECT {columns} FROM resource_periods ORDER BY 1, 2, 3")


def test_the_evidence_of_an_erased_user_is_what_its_messages_say_now(site: Site) -> None:
    fill(site)
    erase_ana(site)
    columns = ", ".join(name for name in EVIDENCE.names if name != "event_day")
    before, periods = rows(site, "evidence", columns), existed(site)
    resources, units = load_resources(None), load_units(None)
    extract = Extractor(resources, units, site.settings.sample_source)
    again = extract.rows(pa.Table.from_pylist(rows(site, "notifications"), NOTIFICATIONS), Read())
    key = itemgetter("message_id", "resource_id")
    assert sorted(again.select(columns.split(", ")).to_pylist(), key=key) == sorted(before, key=key)
    month = NOON.date().replace(day=1)
    compute(site, months=[month])  # makes the digests of the erased rows again
    assert compute(site, months=[month]).changed == 0
    assert existed(site) == periods


def test_an_erasure_that_was_killed_leaves_one_resource(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    land(site, created(f"home-of-{ANA}", at(days=-40), user_id=ANA) | {"message_id": "m1"})
    compute(site)
    land(site, audit(f"home-of-{ANA}", user_id=ANA) | {"message_id": "m2"})
    compute(site)
    one = proposed(site, ANA, reason="r", author="a")

    def killed(*args: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("meterhouse.erasure.warehouse_rows.replace", killed)
        with pytest.raises(KeyboardInterrupt):
            erase(site, one, ANA)
    compute(site)  # by the ids of the lake, while the warehouse has the old ones
    erase(site, one, ANA)
    compute(site)
    (found,) = warehouse_rows(site, "SELECT resource_id, confirmed_by, ended_at FROM resource_periods")
    assert found == (f"home-of-{recorded(site)[0].user.pseudonym}", "events,audits", None)
    assert left(site, [ANA]) == []


def test_what_lands_while_an_erasure_begins_is_erased(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """A landing that has written its file, and has not committed it, begins anew."""
    fill(site)
    drop(site.settings.spool, "late.jsonl", messages(1200))
    real, once = Lake.commit, []

    def late(lake: Lake, name: str, *args: Any, **more: Any) -> int:
        if name == "notifications" and not once:
            once.append(1)
            user = proposed(site, ANA, reason="r", author="a")
            publish(Site.open(site.settings).lake, [user.user])
        return real(lake, name, *args, **more)

    monkeypatch.setattr(Lake, "commit", late)
    collect(site)
    late_rows = rows(site, "notifications", "body", "timestamp IS NOT NULL", "received_at DESC LIMIT 18")
    assert not any(ANA in row["body"] for row in late_rows)
    assert sum("erased-" in row["body"] for row in late_rows) == 12


def test_a_lake_that_was_restored_is_erased_again_with_what_came_since(site: Site, tmp_path: Path) -> None:
    """The same series is there under the id and under the pseudonym, in the same hours."""
    fill(site)
    shutil.copytree(site.lake.url, tmp_path / "lake")
    erase_ana(site)
    shutil.rmtree(site.lake.url)
    shutil.copytree(tmp_path / "lake", site.lake.url)
    restored = Site.open(site.settings)
    mend(restored)
    late = [batch for batch in messages(5) if batch["event_type"] == "telemetry.polling"]
    drop(site.settings.spool, "late.jsonl", late)
    process(restored)
    before = figures(restored)
    again(restored)
    roll_up(restored)
    assert left(restored, [ANA]) == []
    (pseudonym,) = (one.user.pseudonym for one in recorded(restored))
    found = rows(restored, "samples", "DISTINCT series_id, user_id, meter, resource_id", "meter = 'cpu'")
    assert sorted(row["user_id"] for row in found) == sorted([BOB, pseudonym, pseudonym])
    now = figures(restored)
    assert {name: now[name] for name in ("samples", "events", "bill")} == {
        name: before[name] for name in ("samples", "events", "bill")
    }
    erased = {(r["bucket"], r["series_id"]) for r in rows(restored, "rollups", where="granularity_s = 3600")}
    assert len(erased) == count(restored, "rollups", "granularity_s = 3600")
    in_warehouse = warehouse_rows(restored, "SELECT count(*), sum(count) FROM rollup_1h")
    in_lake = rows(restored, "rollups", "count(*) AS n, sum(count)::BIGINT AS points", "granularity_s = 3600")
    assert in_warehouse == [tuple(in_lake[0].values())]
    restored.warehouse.engine.dispose()


def test_names_of_an_erased_user_go_and_do_not_come_back(open_site: OpenSite, tmp_path: Path) -> None:
    file = tmp_path / "names.csv"
    file.write_text(f"kind,id,name\nuser,{ANA},Ana of the file\nuser,{BOB},Bob\nproject,p1,Shop\n")
    site = open_site(config_dir=tmp_path)
    fill(site)
    sync(site)
    with site.warehouse.begin() as connection:
        seen = [Seen("ana.by.keystone", "Default", NOON, NOON)]
        merge(connection, KEYSTONE, {("user", ANA): seen})
    assert names_at(site, "user", NOON)[ANA] == "Ana of the file"
    found = preview(site, proposed(site, ANA, reason="r", author="a"), ANA)
    assert found.described["name", "Ana of the file"] == found.described["name", "ana.by.keystone"] == 1
    done = erase_ana(site)
    assert done.rows["resource_names"] == found.rows["resource_names"] >= 2
    assert str(file) in " ".join(done.left)
    assert left(site, [ANA, "Ana of the file", "ana.by.keystone"]) == []
    assert sync(site).messages == 0  # the erasure has brought it along
    with site.warehouse.begin() as connection:
        connection.exec_driver_sql("DELETE FROM followed WHERE follower = 'names'")
    sync(site)  # from a file that still has the name, and all messages
    assert left(site, [ANA, "Ana of the file", "ana.by.keystone"]) == []
    assert names_at(site, "user", NOON)[BOB] == "Bob"
    assert names_at(site, "project", NOON)["p1"] == "Shop"
