"""Erasing a user: nothing of the person is left anywhere, and no figure changes."""

import json
from typing import Any

import pytest
from builders import NOON, at, count, drop, notification, polled, polling, process, roll_up, rows, warehouse_rows
from leftovers import left

from meterhouse import times
from meterhouse.archive.seal import archive, manifest
from meterhouse.catalog import snapshot
from meterhouse.erasure.erase import Found, erase, preview
from meterhouse.erasure.recorded import proposed, recorded
from meterhouse.recompute import backfill
from meterhouse.site import Site

ANA, BOB = "b0a1c2d3e4f5061728394a5b6c7d8e9f", "0f1e2d3c4b5a69788796a5b4c3d2e1f0"
NAME, MAIL = "Ana Łopez", "ana@example.com"
OTHERS = {"Bob Builder", "bob@example.com", BOB}

FIGURES = {
    "samples": "meter, type, unit, project_id, timestamp, volume",
    "rollups": "granularity_s, bucket, count, sum, min, max, increase, resets, excluded",
    "quarantine": "meter, project_id, timestamp, volume, reasons",
    "events": "message_id, event_type, generated, len(traits) AS traits",
    "notifications": "message_id, event_type, timestamp",
    "dead_letters": "letter_id, queue",
}


def exists(message_id: str, user: str, name: str, mail: str) -> dict[str, Any]:
    """An audit of a server, as Nova sends it, with a user's name, mail and address."""
    message = notification(message_id)
    message["_context_user_id"] = user
    message["_context_user_name"] = name
    message["_context_remote_address"] = f"198.51.100.{len(name)}"
    message["_context_user_identity"] = f"{user} p1 - - -"
    message["payload"] |= {"user_id": user, "display_name": "web-01", "owner": {"id": user, "email": mail}}
    message["payload"] |= {"memory_mb": 512, "vcpus": 2, "state": "active", "instance_type": "m1.small"}
    return message


def messages(since: float = 0) -> list[dict[str, Any]]:
    """Polled samples and audits of two users; counters, and points that rules exclude."""
    made: list[dict[str, Any]] = []
    for n in range(6):
        when, batch = at(since + 25 * n), []
        for user, resource in ((ANA, "ana-vm"), (BOB, "bob-vm"), (ANA, f"account/{ANA}")):
            more = {"resource": resource, "user_id": user, "resource_metadata": {"user_id": user, "n": n // 3}}
            batch.append(polled(10.0 * n, when, meter="cpu", type="cumulative", **more))
            batch.append(polled(-5.0 if n == 2 else 5.0, when, **more))
        made.append(polling(f"polled-{since}-{n}", batch))
        made.append(exists(f"ana-{since}-{n}", ANA, NAME, MAIL))
        made.append(exists(f"bob-{since}-{n}", BOB, "Bob Builder", "bob@example.com"))
    return made


def fill(site: Site) -> None:
    """Land everything that may hold personal data."""
    drop(site.settings.spool, "one.jsonl", [*messages(), {"message_id": "no type", "user": {"id": ANA, "name": NAME}}])
    process(site)
    drop(site.settings.spool, "two.jsonl.gz", messages(600))
    process(site)


def figures(site: Site) -> dict[str, list[dict[str, Any]]]:
    """What must not change."""
    found = {name: rows(site, name, columns) for name, columns in FIGURES.items()}
    bill = "project_id, meter, count(*) AS n, sum(volume) AS volume"
    found["bill"] = rows(site, "samples", bill, "true GROUP BY ALL")
    for name in ("rollup_1h", "rollup_1d"):
        query = f"SELECT bucket, count, sum, min, max, increase, excluded FROM {name}"
        found[name] = [{"row": str(row)} for row in sorted(warehouse_rows(site, query), key=str)]
    return found


def erase_ana(site: Site, *texts: str) -> Found:
    one = proposed(site, ANA, reason="asked on 1 May", author="dpo")
    return erase(site, one, ANA, texts or (NAME, MAIL))


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
    before, others = figures(site), left(site, sorted(OTHERS))
    seen = preview(site, proposed(site, ANA, reason="r", author="a"), ANA, (NAME, MAIL))
    assert left(site, [ANA])
    assert not recorded(site)
    done = erase_ana(site)
    assert left(site, [ANA, NAME, MAIL, json.dumps(NAME)[1:-1], "198.51.100.9"]) == []
    assert figures(site) == before
    assert {place.rpartition(": ")[2] for place in others} == OTHERS
    assert {place.rpartition(": ")[2] for place in left(site, sorted(OTHERS))} == OTHERS
    (one,) = recorded(site)
    assert (one.reason, one.author, one.ended_at is not None) == ("asked on 1 May", "dpo", True)
    assert dict(one.rows) == dict(done.rows) == dict(seen.rows)
    expected = {"notifications": 24, "dead_letters": 1, "spool": 3}
    assert {name: one.rows[name] for name in expected} == expected
    for entry in manifest(site):  # the sealed days are sealed again
        assert set(entry["files"]) == site.lake.live(entry["table_name"])
    assert not snapshot(site).hours
    pseudonym = one.user.pseudonym
    assert count(site, "samples", f"user_id = '{pseudonym}'") == one.rows["samples"]
    assert count(site, "samples", f"resource_id = 'account/{pseudonym}'") == 24


def test_what_comes_later_is_of_the_same_pseudonym(site: Site) -> None:
    fill(site)
    erase_ana(site)
    (pseudonym,) = (one.user.pseudonym for one in recorded(site))
    ana = count(site, "samples", f"user_id = '{pseudonym}'")
    drop(site.settings.spool, "again.jsonl", messages())
    drop(site.settings.spool, "late.jsonl", [*messages(1200), {"message_id": "no type again", "user_id": ANA}])
    process(site)
    assert count(site, "samples", f"user_id = '{pseudonym}'") == ana * 3 / 2
    assert left(site, [ANA, NAME, MAIL]) == []
    assert len(erase_ana(site).rows) == 0


def test_conversion_again_changes_nothing(site: Site) -> None:
    fill(site)
    erase_ana(site)
    tables = {name: rows(site, name) for name in ("samples", "events", "rollups")}
    for asset in ("samples", "events"):
        done = backfill(site, asset, NOON - 400 * times.DAY, times.now() + times.HOUR)
        assert done["changed_hours"] == 0
    roll_up(site)
    assert {name: rows(site, name) for name in tables} == tables
    assert left(site, [ANA, NAME, MAIL]) == []
