"""How far collection is behind: depth, age, rate and time to drain, and what uses them."""

import os
import time
import warnings
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import yaml
from brokers import Proxy, declare, delete, depth, publish, traffic, wait_for
from builders import drop, enveloped, line, notification, warehouse_rows
from conftest import OpenSite

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # BackfillPolicy is beta in this version of Dagster, and says so at each use
    import dagster as dg

    import definitions
    from assets import resources
    from assets.stream import collection_keeps_up
    from sensors import stream as sensor
    from sensors.active_runs import STEP

from meterhouse import settings as settings_module
from meterhouse import times
from meterhouse.alarms.evaluation.evaluate import evaluate
from meterhouse.alarms.keeping.apply import apply
from meterhouse.broker_urls import Broker, brokers
from meterhouse.collection.intake import intake
from meterhouse.collection.lag import Lag, QueueLag, measure
from meterhouse.collection.stream_meters import METERS
from meterhouse.doctor import examine
from meterhouse.errors import MeterhouseError
from meterhouse.site import Site
from meterhouse.stream import connection
from meterhouse.stream.amqp import AmqpStream
from meterhouse.stream.queues import Queues, Tls

Names = Callable[[str], str]

NEAR = 15.0
"""Seconds by which an age may differ on a busy machine."""


def sent(minutes_ago: float, count: int, word: str = "m") -> list[bytes]:
    moment = times.now() - timedelta(minutes=minutes_ago)
    return [
        line(enveloped(notification(f"{word}{number}", timestamp=moment.strftime("%Y-%m-%d %H:%M:%S.%f"))))
        for number in range(count)
    ]


# --- what follows from what is known ---------------------------------------------------------------------


def lag_of(*queues: QueueLag, rate: float | None = None) -> Lag:
    return Lag(queues, rate, 0)


def queue_of(messages: int, age: float | None = None, *, missing: bool = False) -> QueueLag:
    return QueueLag("b q", messages, age, 1, missing)


@pytest.mark.parametrize(
    ("found", "keeps_up", "said"),
    [
        (lag_of(), True, "nothing waits"),
        (lag_of(queue_of(0)), True, "nothing waits"),
        (lag_of(queue_of(5, 300.0)), True, "5 wait, the oldest for 300 s"),
        (lag_of(queue_of(5, 301.0)), False, "5 wait, the oldest for 301 s; the limit is 300 s"),
        (lag_of(queue_of(5, 10.0), queue_of(7, 400.0)), False, "12 wait, the oldest for 400 s; the limit is 300 s"),
        (lag_of(queue_of(100, 9.0), rate=50.0), True, "100 wait, the oldest for 9 s, drained in 2 s at the last run's"),
        (lag_of(queue_of(0, missing=True)), False, "no queue exists: b q"),
        (lag_of(queue_of(0, missing=True), queue_of(0)), True, "nothing waits"),
    ],
)
def test_collection_keeps_up_unless_a_message_waits_too_long_or_there_is_no_queue(
    found: Lag, keeps_up: bool, said: str
) -> None:
    assert found.keeps_up(300) is keeps_up
    assert found.verdict(300).startswith(said)


def test_the_time_to_drain_follows_from_what_waits_and_the_last_rate() -> None:
    assert lag_of(queue_of(0)).drain_seconds == 0.0
    assert lag_of(queue_of(10)).drain_seconds is None
    assert lag_of(queue_of(10), queue_of(30), rate=8.0).drain_seconds == 5.0


def test_a_spools_lag_is_that_of_its_files(site: Site) -> None:
    assert measure(site) == Lag((QueueLag(str(site.settings.spool), 0, None, None, False),), None, 0)
    path = drop(site.settings.spool, "a.jsonl", [notification("m1")])
    drop(site.settings.spool, "b.jsonl", [notification("m2")])
    past = time.time() - 500
    os.utime(path, (past, past))
    found = measure(site)
    assert found.messages == 2
    assert found.bytes > 400
    assert abs(found.age_seconds - 500) < NEAR
    assert not found.keeps_up(300)


# --- queues ---------------------------------------------------------------------------------------------


@pytest.fixture
def queue(amqp_url: str, names: Names) -> str:
    name = names("queue")
    declare(amqp_url, "", name, "")
    return name


@pytest.fixture
def busy(amqp_url: str, queue: str, open_site: OpenSite) -> Site:
    """A site that collects from a queue."""
    return open_site(stream_url=amqp_url, stream_queues=queue)


@pytest.fixture
def peeks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The places whose first message was read."""
    seen: list[str] = []
    plain = AmqpStream.oldest

    def oldest(self: AmqpStream, place: str) -> Any:
        seen.append(place)
        return plain(self, place)

    monkeypatch.setattr(AmqpStream, "oldest", oldest)
    return seen


@pytest.mark.service
@pytest.mark.parametrize("kind", ["classic", "quorum"])
def test_the_age_is_that_of_the_first_message_which_is_read_once(
    amqp_url: str, names: Names, open_site: OpenSite, peeks: list[str], kind: Any
) -> None:
    name = names("queue")
    declare(amqp_url, "", name, "", kind)
    site = open_site(stream_url=amqp_url, stream_queues=name)
    publish(amqp_url, "", name, sent(12, 1) + sent(10, 30, "n"))
    for _ in range(3):
        # A quorum queue takes a moment to count a message that was read and given back.
        wait_for(lambda: depth(amqp_url, name) == 31, "all messages")
        found = measure(site)
        assert found.messages == 31
        assert abs(found.age_seconds - 720) < NEAR
    assert len(peeks) == 1
    done = intake(site)
    assert done.collected.landed == 31
    assert measure(site).age_seconds == 0.0
    publish(amqp_url, "", name, sent(10, 3, "o"))
    assert measure(site).age_seconds < NEAR  # it was seen empty just now
    assert len(peeks) == 1


@pytest.mark.service
def test_after_a_message_was_just_taken_the_next_one_is_not_read(
    amqp_url: str, queue: str, busy: Site, peeks: list[str]
) -> None:
    publish(amqp_url, "", queue, sent(0, 5))
    intake(busy)
    publish(amqp_url, "", queue, sent(0, 5, "n"))
    found = measure(busy)
    assert found.messages == 5
    assert found.age_seconds < NEAR
    assert peeks == []


@pytest.mark.service
def test_what_was_taken_no_longer_counts_for_the_age(amqp_url: str, queue: str, busy: Site, peeks: list[str]) -> None:
    publish(amqp_url, "", queue, sent(12, 5))
    assert abs(measure(busy).age_seconds - 720) < NEAR
    intake(busy)
    publish(amqp_url, "", queue, sent(5, 5, "n"))
    assert abs(measure(busy).age_seconds - 300) < NEAR
    assert len(peeks) == 2


@pytest.mark.service
def test_a_first_message_without_a_time_is_as_old_as_the_first_look_at_it(
    amqp_url: str, queue: str, busy: Site, peeks: list[str]
) -> None:
    publish(amqp_url, "", queue, [b"no notification"])
    found = measure(busy)
    assert (found.messages, found.age_seconds) == (1, 0.0)
    time.sleep(0.1)
    assert 0.1 <= measure(busy).age_seconds < NEAR
    assert len(peeks) == 1


@pytest.mark.service
def test_a_message_is_not_older_than_the_time_that_the_queue_was_seen_empty(
    amqp_url: str, queue: str, busy: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert measure(busy).messages == 0
    publish(amqp_url, "", queue, sent(60 * 24 * 12, 3))
    clock = times.now
    monkeypatch.setattr(times, "now", lambda: clock() + timedelta(minutes=5))
    assert abs(measure(busy).age_seconds - 300) < NEAR


@pytest.mark.service
def test_the_lag_of_a_stream_queue_is_what_was_not_read(
    amqp_url: str, names: Names, open_site: OpenSite, peeks: list[str]
) -> None:
    name = names("stream")
    declare(amqp_url, "", name, "", "stream")
    site = open_site(stream_url=amqp_url, stream_queues=name, stream_queue_type="stream")
    publish(amqp_url, "", name, sent(12, 40))
    wait_for(lambda: site.stream.backlog().messages == 40, "the depth")
    assert abs(measure(site).age_seconds - 720) < NEAR
    assert intake(site).collected.landed == 40
    assert measure(site).messages == 0
    publish(amqp_url, "", name, sent(5, 3, "n"))
    wait_for(lambda: measure(site).messages == 3, "the depth")
    stream = site.stream
    assert isinstance(stream, AmqpStream)
    first = stream.oldest(stream.brokers[0].place(name))
    assert first is not None
    assert abs((times.now() - first).total_seconds() - 300) < NEAR


@pytest.mark.service
def test_the_rate_is_that_of_the_last_run(amqp_url: str, queue: str, busy: Site) -> None:
    assert measure(busy).rate is None
    publish(amqp_url, "", queue, sent(0, 200))
    collected = intake(busy).collected
    publish(amqp_url, "", queue, sent(0, 50, "n"))
    found = measure(busy)
    assert found.rate == pytest.approx(collected.rate)
    assert collected.rate >= 200 / collected.seconds
    assert found.drain_seconds == pytest.approx(50 / collected.rate)


@pytest.mark.service
def test_a_missing_queue_is_named(amqp_url: str, names: Names, open_site: OpenSite) -> None:
    missing = names("missing")
    found = measure(open_site(stream_url=amqp_url, stream_queues=missing))
    assert [queue.missing for queue in found.queues] == [True]
    assert not found.keeps_up(300)
    assert missing in found.verdict(300)


# --- who acts on it --------------------------------------------------------------------------------------


@pytest.fixture
def here(tmp_path: Path, amqp_url: str, queue: str, migrated: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """The site that assets, sensors and the doctor open by themselves; two runs may collect at the same time."""
    for name, value in (
        ("HOME", str(tmp_path)),
        ("CONFIG_DIR", str(tmp_path)),
        ("STREAM_URL", amqp_url),
        ("STREAM_QUEUES", queue),
        ("COLLECT_RUNS", "2"),
    ):
        monkeypatch.setenv(f"METERHOUSE_{name}", value)
    (tmp_path / "warehouse.db").write_bytes(migrated.read_bytes())
    settings_module.settings.cache_clear()
    resources.open_site.cache_clear()
    yield resources.open_site()
    resources.open_site().stream.close()
    resources.open_site().warehouse.engine.dispose()
    settings_module.settings.cache_clear()
    resources.open_site.cache_clear()


@pytest.mark.service
@pytest.mark.filterwarnings("ignore::dagster.BetaWarning")
def test_the_sensor_only_checks_the_depth_and_starts_as_many_runs_as_allowed(
    amqp_url: str, queue: str, here: Site, peeks: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object, **__: object) -> None:
        pytest.fail("the sensor takes messages")

    monkeypatch.setattr(AmqpStream, "batches", never)
    with dg.DagsterInstance.ephemeral() as instance:

        def tick() -> Any:
            context = dg.build_sensor_context(instance=instance, resources={"site": resources.SiteResource()})
            return sensor.stream_sensor(context)

        assert "quiet" in str(tick().skip_message)
        publish(amqp_url, "", queue, sent(0, 3))
        steps = []
        for _ in range(2):
            asked = tick()
            assert asked.tags["meterhouse/waiting"] == "3"
            steps.append(asked.tags[STEP])
            job = definitions.defs.resolve_job_def("collect")
            instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTED, tags=asked.tags)
        assert steps == ["collect", "collect 2"]
        assert "2 runs of collect are already running" in str(tick().skip_message)
    assert peeks == []
    assert intake_is_undisturbed(amqp_url, queue)


@pytest.mark.service
def test_consecutive_checks_share_a_connection_and_survive_its_loss(
    amqp_url: str, queue: str, here: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    real = connection.open_link

    def counted(broker: Broker, tls: Tls) -> connection.Link:
        opened.append(broker.name)
        return real(broker, tls)

    monkeypatch.setattr(connection, "open_link", counted)
    publish(amqp_url, "", queue, sent(0, 3))
    with Proxy(amqp_url) as proxy:
        stream = AmqpStream(brokers(proxy.url), Queues((queue,)))
        assert [stream.backlog(keep=True).messages for _ in range(3)] == [3, 3, 3]
        assert len(opened) == 1
        proxy.cut()
        assert stream.backlog(keep=True).messages == 3
        assert len(opened) == 2
        proxy.refuse()
        with pytest.raises(MeterhouseError, match="cannot be reached"):
            stream.backlog(keep=True)
        proxy.pass_on()
        assert stream.backlog(keep=True).messages == 3
        stream.close()


def intake_is_undisturbed(url: str, name: str) -> bool:
    from brokers import take

    return [message.delivery_info["redelivered"] for message in take(url, name)] == [False] * 3


@pytest.mark.service
def test_the_check_fails_if_a_message_waits_for_longer_than_allowed(amqp_url: str, queue: str, here: Site) -> None:
    def check() -> Any:
        return collection_keeps_up(resources.SiteResource())

    assert check().passed
    publish(amqp_url, "", queue, sent(4, 2))
    found = check()
    assert found.passed
    assert found.metadata["messages_waiting"].value == 2
    delete(amqp_url, queue)
    declare(amqp_url, "", queue, "")
    assert check().passed
    publish(amqp_url, "", queue, sent(6, 2))
    forget_when_it_was_empty(here)
    found = check()
    assert not found.passed
    assert "the limit is 300 s" in (found.description or "")
    assert abs(found.metadata["oldest_waiting_seconds"].value - 360) < NEAR
    delete(amqp_url, queue)
    found = check()
    assert not found.passed
    assert "no queue exists" in (found.description or "")


def forget_when_it_was_empty(site: Site) -> None:
    from sqlalchemy import text

    with site.warehouse.begin() as connection:
        connection.execute(text("UPDATE stream_queues SET empty_at = NULL, newest_at = NULL"))


@pytest.mark.service
def test_the_doctor_reports_each_queue_and_collection(
    amqp_url: str, queue: str, here: Site, names: Names, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = names("missing")
    monkeypatch.setenv("METERHOUSE_STREAM_QUEUES", f"{queue},{missing}")
    settings_module.settings.cache_clear()
    publish(amqp_url, "", queue, sent(12, 7))

    found = [row for row in examine() if row["part"] in ("stream", "collection")]

    assert [(row["part"], row["state"]) for row in found] == [
        ("stream", "warning"),
        ("stream", "warning"),
        ("collection", "warning"),
    ]
    assert f"{queue}: 7 messages wait, the oldest for 7" in found[0]["finding"]
    assert f"{missing}: the queue does not exist; see METERHOUSE_STREAM_QUEUES" in found[1]["finding"]
    assert found[2]["finding"] == "no run yet"
    intake(here)
    found = [row for row in examine() if row["part"] in ("stream", "collection")]
    assert [(row["part"], row["state"]) for row in found] == [
        ("stream", "ok"),
        ("stream", "warning"),
        ("collection", "ok"),
    ]
    assert "nothing waits" in found[0]["finding"]


@pytest.mark.service
def test_the_doctor_says_why_a_broker_cannot_be_reached(here: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("METERHOUSE_STREAM_URL", "amqp://u:s3cr3t@127.0.0.1:1/v")
    settings_module.settings.cache_clear()
    (row,) = [row for row in examine() if row["part"] == "stream"]
    assert row["state"] == "failed"
    assert "127.0.0.1:1/v: the broker cannot be reached" in row["finding"]
    assert "s3cr3t" not in row["finding"]


def alarm(meter: str, threshold: float, **more: Any) -> dict[str, Any]:
    rule = {"meter_name": meter, "threshold": threshold, "comparison_operator": "gt", "period": 300, "statistic": "max"}
    return {"name": meter, "threshold_rule": {**rule, **more}}


@pytest.mark.service
def test_alarms_can_be_set_on_the_lag(amqp_url: str, queue: str, tmp_path: Path, open_site: OpenSite) -> None:
    entries = [
        alarm("meterhouse.stream.messages", 10),
        alarm("meterhouse.stream.age", 600),
        alarm("meterhouse.stream.rate", 0.0),
        alarm("meterhouse.stream.drain_time", 3600),
    ]
    (tmp_path / "alarms.yaml").write_text(yaml.safe_dump({"alarms": entries}))
    site = open_site(stream_url=amqp_url, stream_queues=queue, config_dir=tmp_path)
    apply(site)

    def states() -> dict[str, str]:
        evaluate(site)
        found: dict[str, str] = dict(warehouse_rows(site, "SELECT name, state FROM alarms"))
        return {name.removeprefix("meterhouse.stream."): state for name, state in found.items()}

    publish(amqp_url, "", queue, traffic(1, notifications=5).bodies)
    intake(site)
    assert states() == {"messages": "ok", "age": "ok", "rate": "alarm", "drain_time": "ok"}
    forget_when_it_was_empty(site)
    publish(amqp_url, "", queue, sent(12, 11))
    assert states() == {"messages": "alarm", "age": "alarm", "rate": "alarm", "drain_time": "ok"}
    assert {row[0] for row in warehouse_rows(site, "SELECT DISTINCT meter FROM series")} >= set(METERS)


def test_nothing_is_measured_if_no_alarm_uses_it(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("meterhouse.collection.stream_meters.measure", lambda _: pytest.fail("the stream is measured"))
    evaluate(site)


def test_other_alarms_are_evaluated_if_the_stream_cannot_be_measured(tmp_path: Path, open_site: OpenSite) -> None:
    (tmp_path / "alarms.yaml").write_text(
        yaml.safe_dump({"alarms": [alarm("meterhouse.stream.messages", 10), alarm("cpu_util", 10)]})
    )
    site = open_site(stream_url="amqp://127.0.0.1:1", config_dir=tmp_path)
    apply(site)
    assert evaluate(site).alarms == 2
