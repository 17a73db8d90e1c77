"""`/healthz`, `/readyz`, `/metrics`: what they show of a site whose traffic is known, and of parts that are away."""

import asyncio
import time
from pathlib import Path

import httpx
import pytest
from api_examples import hour
from api_server import client
from brokers import Proxy, wait_for
from builders import drop
from conftest import OpenSite, bucket_settings
from prometheus_client.parser import text_string_to_metric_families
from services import Bucket, Keystone
from test_entry import asked

from meterhouse.alarms.keeping import managed
from meterhouse.alarms.keeping.callers import Caller
from meterhouse.api.access import validator
from meterhouse.api.app import create_app
from meterhouse.api.watching import parts, paths, site_metrics
from meterhouse.collection.intake import intake
from meterhouse.rollups.step import roll_up
from meterhouse.sample_quality.step import judge_hours
from meterhouse.site import Site

Labels = dict[str, str]


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at parts each time."""
    monkeypatch.setattr(site_metrics, "SECONDS", 0.0)
    monkeypatch.setattr(paths, "READY_SECONDS", 0.0)


class Metrics:
    """The metrics of an answer."""

    def __init__(self, answer: httpx.Response) -> None:
        assert answer.status_code == 200, answer.text
        self.families = {each.name: each for each in text_string_to_metric_families(answer.text)}

    def value(self, name: str, **labels: str) -> float | None:
        for family in self.families.values():
            for sample in family.samples:
                if sample.name == name and sample.labels == labels:
                    return float(sample.value)
        return None


def take_in(site: Site) -> None:
    """Collect, judge and roll up what `fill` has, and a line that is not JSON, as the commands do."""
    drop(site.settings.spool, "hour.jsonl", hour())
    (site.settings.spool / "broken.jsonl").write_text("not JSON\n")
    intake(site)
    judge_hours(site)
    roll_up(site)


def test_metrics_tell_of_requests_and_of_the_sites_traffic(any_site: Site, at_once: None) -> None:
    take_in(any_site)
    alarm = {"name": "secret-name", "threshold_rule": {"meter_name": "cpu", "threshold": 1.0}}
    owner = Caller("ann", "secret-project", False)
    managed.create(any_site, alarm, owner)
    managed.create(any_site, {**alarm, "name": "off", "enabled": False}, owner)
    with client(any_site) as ask:
        ask.get("/v2/meters", headers={"X-Project-Id": "secret-project"})
        ask.get("/v2/resources/", headers={"X-Project-Id": "secret-project"})
        ask.head("/v2/resources")
        ask.get("/v2/secret-path")
        ask.request("BREW", "/v2/meters")
        answer = ask.get("/metrics")
        found = Metrics(answer)
        of_meters: Labels = {"method": "GET", "path": "/v2/meters"}
        for name, value, labels in (
            ("meterhouse_api_requests_total", 1, of_meters | {"status": "200"}),
            ("meterhouse_api_requests_total", 1, {"method": "GET", "path": "/v2/resources", "status": "200"}),
            ("meterhouse_api_requests_total", 1, {"method": "HEAD", "path": "/v2/resources", "status": "200"}),
            ("meterhouse_api_requests_total", 1, {"method": "GET", "path": "(unknown)", "status": "404"}),
            ("meterhouse_api_request_seconds_count", 1, of_meters),
            ("meterhouse_api_wait_seconds_count", 3, {}),
            ("meterhouse_api_requests_in_flight", 1, {}),  # this one
            *(("meterhouse_up", 1, {"part": part}) for part in ("warehouse", "stream", "lake")),
            ("meterhouse_collected_messages_total", 3, {}),
            ("meterhouse_landed_messages_total", 2, {}),
            ("meterhouse_dead_letters_total", 1, {}),
            ("meterhouse_conversion_errors_total", 0, {}),
            ("meterhouse_excluded_points", 2, {}),
            ("meterhouse_dirty_hours", 0, {"step": "judge"}),
            ("meterhouse_dirty_hours", 0, {"step": "rollup"}),
            ("meterhouse_alarms", 1, {"state": "insufficient data"}),
        ):
            assert found.value(name, **labels) == value, name
        converted = found.value("meterhouse_converted_samples_total")
        assert converted is not None
        assert converted == (found.value("meterhouse_good_points") or 0) + 2
        ended = found.value("meterhouse_step_ended_timestamp_seconds", step="convert")
        assert ended is not None
        assert abs(time.time() - ended) < 3600
        assert "secret" not in answer.text
        drop(any_site.settings.spool, "more.jsonl", hour("again"))
        (place,) = (queue.place for queue in any_site.stream.backlog().places)
        found = Metrics(ask.get("/metrics"))
        assert found.value("meterhouse_stream_waiting_messages", place=place) == 1
        assert (found.value("meterhouse_stream_oldest_seconds", place=place) or 0) > 0
        intake(any_site)
        found = Metrics(ask.get("/metrics"))
        assert found.value("meterhouse_landed_messages_total") == 4
        assert (found.value("meterhouse_converted_samples_total") or 0) > converted
        assert (found.value("meterhouse_dirty_hours", step="rollup") or 0) > 0
        openmetrics = ask.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
        assert openmetrics.headers["content-type"].startswith("application/openmetrics-text")
        assert openmetrics.text.endswith("# EOF\n")


def test_metrics_are_for_the_networks_of_the_setting(open_site: OpenSite) -> None:
    local, more, none = (
        create_app(open_site(**given)) for given in ({}, {"api_metrics_from": "10.0.0.0/8"}, {"api_metrics_from": ","})
    )
    for app, remote, status in (
        (local, "127.0.0.1", 200),
        (local, "::1", 200),
        (local, "::ffff:127.0.0.1", 200),
        (local, "10.0.0.1", 403),
        (more, "10.0.0.1", 200),
        (more, "127.0.0.1", 403),
        (none, "127.0.0.1", 403),
    ):
        answer = asked(app, "/metrics", remote=remote)
        assert answer.status_code == status, remote
        assert ("meterhouse_up" in answer.text) == (status == 200)
        assert asked(app, "/healthz", remote=remote).status_code == 200


def away(site: Site, *names: str) -> None:
    """Make sure that the site says which of its parts are away, and still answers."""
    with client(site) as ask:

        def states() -> dict[str, str]:
            ready = ask.get("/readyz")
            found: dict[str, str] = ready.json()
            assert (ready.status_code, found["status"]) in ((200, "ok"), (503, "not ready"))
            return {part: state for part, state in found.items() if part != "status"}

        def told() -> bool:
            return {part for part, state in states().items() if state == "away"} == set(names)

        wait_for(told, f"that {names or 'nothing'} is away")  # on a busy machine, others may be slow too
        found = Metrics(ask.get("/metrics"))
        assert ask.get("/healthz").json() == {"status": "ok"}
    for part in ("warehouse", "lake", *(["keystone"] if site.settings.api_auth == "keystone" else [])):
        assert found.value("meterhouse_up", part=part) == float(part not in names), part
    assert ("meterhouse_landed_messages" in found.families) == ("warehouse" not in names)


def test_a_warehouse_or_lake_that_is_away_is_named_and_breaks_nothing(
    open_site: OpenSite, at_once: None, tmp_path: Path
) -> None:
    site = open_site(lake_url=str(tmp_path / "lake"))
    away(site)
    (tmp_path / "lake").write_text("a file")
    away(site, "lake")
    site.warehouse.engine.dispose()
    for path in site.settings.home_path.glob("warehouse.db*"):
        path.unlink()
    site.settings.home_path.joinpath("warehouse.db").mkdir()
    away(site, "warehouse", "lake")


@pytest.mark.service
def test_a_server_that_is_away_is_named_without_its_address(
    open_site: OpenSite,
    at_once: None,
    postgres_warehouse: str,
    s3: Bucket,
    keystone: Keystone,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(validator, "SECONDS", 0.5)
    stores = Proxy(postgres_warehouse), Proxy(s3["endpoint"]), Proxy(keystone.url)
    with stores[0] as postgres, stores[1] as objects, stores[2] as identity:
        given = bucket_settings({**s3, "endpoint": objects.url}) | keystone.settings
        site = open_site(**given | {"keystone_url": identity.url}, warehouse_url=postgres.url, api_auth="keystone")
        away(site)
        for proxy, name in ((postgres, "warehouse"), (objects, "lake"), (identity, "keystone")):
            proxy.refuse()
            away(site, name)
            proxy.pass_on()
        identity.stall()
        away(site, "keystone")
        with client(site) as ask:
            answer = ask.get("/readyz").text
        assert "127.0.0.1" not in answer
        assert str(identity.port) not in answer


def test_a_part_that_hangs_is_asked_once_and_holds_up_nobody(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(parts, "WITHIN_SECONDS", 0.05)

    async def run() -> None:
        looks, answers = 0, asyncio.Event()

        async def look() -> str:
            nonlocal looks
            looks += 1
            await answers.wait()
            return "there"

        clock = [0.0]
        part = parts.Part("store", look, 10.0, lambda: clock[0])
        assert await asyncio.gather(*(part.seen() for _ in range(20))) == [None] * 20
        assert looks == 1
        monkeypatch.setattr(parts, "WITHIN_SECONDS", 30.0)
        answers.set()
        assert await part.seen() == "there"
        clock[0] = 9.0
        assert await part.seen() == "there"
        assert looks == 1
        clock[0] = 10.0
        assert await part.seen() == "there"
        assert looks == 2

    asyncio.run(run())
    assert [record.getMessage() for record in caplog.records] == ["store is away: no answer within 0.05 s"]
