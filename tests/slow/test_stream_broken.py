"""The stream fails in every way, and the results are counted: nothing is lost or duplicated."""

import itertools
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from brokers import Broker, Proxy, channel, declare, depth, malformed, publish, traffic, wait_for
from builders import count
from conftest import OpenSite
from stream_steps import Collector, Publisher, assert_exact, environment, left_behind, processes

from meterhouse.site import Site

pytestmark = [pytest.mark.slow, pytest.mark.service]

KINDS = ["classic", "quorum"]

AWAY_SECONDS = 40.0
"""How long the warehouse is unavailable."""

Collect = Callable[..., Collector]
Stage = Callable[..., tuple[Site, str]]


@pytest.fixture
def collect() -> Iterator[Collect]:
    """Starts collectors; those that still run at the end are killed."""
    started: list[Collector] = []

    def start(*arguments: Any, **more: Any) -> Collector:
        started.append(Collector(*arguments, **more))
        return started[-1]

    yield start
    for each in started:
        each.kill()


@pytest.fixture
def stage(open_site: OpenSite, names: Callable[[str], str], amqp_url: str) -> Stage:
    """Create a queue, and a site that consumes it; return both."""

    def make(kind: str = "classic", url: str = "", at: str = "", **settings: Any) -> tuple[Site, str]:
        queue = names(kind)
        declare(url or amqp_url, "", queue, "", kind)
        site = open_site(stream_url=at or url or amqp_url, stream_queues=queue, **settings)
        for table in ("notifications", "samples", "events", "dead_letters"):
            site.lake.version(table)
        return site, queue

    return make


def finish(collect: Collect, site: Site, queue: str, url: str) -> None:
    """Collect what is left, as soon as the queue has no other consumer."""
    wait_for(lambda: consumers(url, queue) == 0, "the end of all consumers")
    last = collect(site)
    assert last.ended() == 0, last.errors


def consumers(url: str, queue: str) -> int:
    with channel(url) as to:
        return int(to.queue_declare(queue, passive=True).consumer_count)


# --- the consumer dies -------------------------------------------------------------------------------

OF_NOTIFICATIONS = "when=lambda self, name, *a, **k: name == 'notifications'"
MOMENTS = {
    "before landing": "before(landing.Landing, 'land', nth=2)",
    "between dead letters and landing": "after(landing, 'store_letters')",
    "before the data file": f"before(lake.Lake, 'write_files', nth=2, {OF_NOTIFICATIONS})",
    "between the data file and the commit": f"before(lake.Lake, 'commit', nth=2, {OF_NOTIFICATIONS})",
    "at the first trace of the commit": "die_at_first_trace({log!r}, 0.0)",
    "within the commit": "die_at_first_trace({log!r}, 0.0005)",
    "between the commit and its return": (
        "after(lake.DeltaTable, 'create_write_transaction', nth=2, when=lambda self, *a, **k: "
        "self.table_uri.rstrip('/').endswith('notifications'))"
    ),
    "between landing and acknowledging": "after(collect, '_land', nth=2)",
    "before the landed is synced": "before(syncing, 'sync')",
    "between syncing and acknowledging": "after(syncing, 'sync')",
    "before the acknowledgement is sent": "before(following.Follower, 'landed', nth=2)",
    "between acknowledgement and conversion": (
        "slow(following.Follower, 'landed', 0.5); after(Channel, 'basic_ack', nth=2)"
    ),
    "before conversion": "before(conversion, '_convert_some')",
    "between samples and events": ("before(lake.Lake, 'append', when=lambda self, name, *a, **k: name == 'events')"),
    "between conversion and catalog": "before(catalog, '_add_samples')",
    "while the index is written": "after(landed, '_pieces')",
    "between the index and its name": (
        "before(landed.Path, 'replace', when=lambda self, target: self.suffix == '.part')"
    ),
}


WITH_BOTH_KINDS = ["before landing", "between landing and acknowledging", "between acknowledgement and conversion"]


@pytest.mark.parametrize(
    ("moment", "kind"),
    [*((moment, "classic") for moment in MOMENTS), *((moment, "quorum") for moment in WITH_BOTH_KINDS)],
)
def test_a_killed_consumer_loses_and_duplicates_nothing(
    stage: Stage, collect: Collect, amqp_url: str, moment: str, kind: str
) -> None:
    site, queue = stage(kind, stream_prefetch=40)
    made = traffic(1, notifications=90, polling=20, samples=10)
    bad = malformed(1, 11)
    publish(amqp_url, "", queue, mixed([*made.bodies, *bad, *made.bodies[:11]]))
    fault = MOMENTS[moment].format(log=f"{site.lake.uri('notifications')}/_delta_log")
    killed = collect(site, fault=fault)
    assert killed.ended() == -signal.SIGKILL, killed.errors
    finish(collect, site, queue, amqp_url)
    assert_exact(site, [made], len(bad))


def mixed(bodies: list[bytes]) -> list[bytes]:
    """The bodies in another order, which is always the same."""
    random.Random(len(bodies)).shuffle(bodies)
    return bodies


def test_repeated_kills_under_load_lose_and_duplicate_nothing(stage: Stage, collect: Collect, amqp_url: str) -> None:
    site, queue = stage("quorum", stream_prefetch=400)
    made = traffic(2, notifications=3000, polling=200, samples=20)
    publisher = Publisher(amqp_url, queue, made.bodies, per_second=60)
    publisher.start()
    before = 0
    for number in range(10):
        killed = collect(site, "--follow")
        wait_for(lambda: consumers(amqp_url, queue), "the consumer")
        time.sleep(0.07 * number)
        assert killed.signalled(signal.SIGKILL) == -signal.SIGKILL
        before = count(site, "notifications")
    assert before < len(made.bodies), "the kills came too late"
    publisher.join()
    finish(collect, site, queue, amqp_url)
    assert before > 0, "the kills came too early"
    assert_exact(site, [made])


FOLLOWED_BY_A_PROCESS = "intake.MANY_MESSAGES = 1"


def test_a_conversion_process_that_is_killed_repeatedly_converts_everything_once(
    stage: Stage, collect: Collect, amqp_url: str
) -> None:
    site, queue = stage(stream_prefetch=400)
    made = traffic(3, notifications=1400, polling=100, samples=20)
    publisher = Publisher(amqp_url, queue, made.bodies, per_second=150)
    publisher.start()
    collector = collect(site, "--follow", fault=FOLLOWED_BY_A_PROCESS)
    killed = 0
    while publisher.is_running:
        wait_for(lambda: collector.child() or not publisher.is_running, "a conversion process")
        if child := collector.child():
            time.sleep(0.3 * (killed % 6))
            with suppress(ProcessLookupError):  # it ended by itself, because nothing more came
                os.kill(child, signal.SIGKILL)
                killed += 1
    assert killed >= 3
    publisher.join()
    wait_for(lambda: count(site, "notifications") == len(made.bodies), "the last landing")
    assert collector.signalled(signal.SIGTERM) == 0, collector.errors
    finish(collect, site, queue, amqp_url)
    assert_exact(site, [made])


def test_a_conversion_process_ends_with_the_consumer_that_is_killed(
    stage: Stage, collect: Collect, amqp_url: str
) -> None:
    site, queue = stage(stream_prefetch=400)
    made = traffic(4, notifications=1500, polling=50, samples=20)
    publish(amqp_url, "", queue, made.bodies)
    collector = collect(site, "--follow", fault=FOLLOWED_BY_A_PROCESS)
    wait_for(lambda: count(site, "events"), "the first conversion")
    child = collector.child()
    assert child is not None
    assert collector.signalled(signal.SIGKILL) == -signal.SIGKILL
    finish(collect, site, queue, amqp_url)
    wait_for(lambda: child not in dict(processes()), "the end of the conversion process")
    assert_exact(site, [made])


# --- the broker dies, and the network ----------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS[::-1])  # after another kill, a quorum queue may confirm nothing for minutes
def test_a_broker_killed_under_load_loses_and_duplicates_nothing(
    stage: Stage, collect: Collect, own_broker: Broker, kind: str
) -> None:
    url = own_broker.url
    site, queue = stage(kind, url, stream_prefetch=400)
    made = traffic(5, notifications=1900, polling=100, samples=20)
    publish(url, "", queue, made.bodies[:10])
    collector = collect(site, "--follow")
    wait_for(lambda: count(site, "notifications") >= 10, "the first landings")
    publisher = Publisher(url, queue, made.bodies[10:], per_second=400)
    publisher.start()
    wait_for(lambda: count(site, "notifications") > 100, "landings under load")
    assert publisher.is_running, "the kill comes too late"
    own_broker.kill()
    own_broker.restart()
    publisher.join()
    assert publisher.again > 0
    wait_for(lambda: count(site, "notifications") == len(made.bodies), "the last landing")
    wait_for(lambda: depth(url, queue) == 0, "the end of the queue")
    assert collector.signalled(signal.SIGTERM) == 0, collector.errors
    assert "retrying in" in collector.errors
    finish(collect, site, queue, url)
    assert_exact(site, [made])


def refused(proxy: Proxy) -> None:
    proxy.refuse()
    time.sleep(3)
    proxy.pass_on()


def stalled(proxy: Proxy) -> None:
    proxy.stall()
    time.sleep(8)
    proxy.pass_on()


def reset(proxy: Proxy) -> None:
    for _ in range(3):
        proxy.cut()
        time.sleep(0.7)


@pytest.mark.parametrize(("fails", "kind"), [(refused, "classic"), (stalled, "quorum"), (reset, "classic")])
def test_a_network_that_fails_during_a_drain_loses_and_duplicates_nothing(
    stage: Stage, collect: Collect, amqp_url: str, kind: str, fails: Callable[[Proxy], None]
) -> None:
    with Proxy(amqp_url) as proxy:
        site, queue = stage(kind, at=f"{proxy.url}?heartbeat=2", stream_prefetch=200)
        made = traffic(6, notifications=1500, polling=100, samples=20)
        publisher = Publisher(amqp_url, queue, made.bodies, per_second=400)
        publisher.start()
        collector = collect(site, "--follow")
        wait_for(lambda: count(site, "notifications") > 200, "the first landings")
        fails(proxy)
        publisher.join()
        wait_for(lambda: count(site, "notifications") == len(made.bodies), "the last landing")
        wait_for(lambda: depth(amqp_url, queue) == 0, "the end of the queue")
        assert collector.signalled(signal.SIGTERM) == 0, collector.errors
        assert "retrying in" in collector.errors
        finish(collect, site, queue, amqp_url)
        assert_exact(site, [made])


# --- several at once, slow ones, and what is sent twice or is nothing ---------------------------------


@pytest.mark.parametrize(("racing", "homes"), [(2, "shared"), (3, "own")])
def test_consumers_that_race_land_each_message_once(
    stage: Stage,
    open_site: OpenSite,
    collect: Collect,
    amqp_url: str,
    request: pytest.FixtureRequest,
    racing: int,
    homes: str,
) -> None:
    shared = {} if homes == "shared" else {"warehouse_url": request.getfixturevalue("postgres_warehouse")}
    site, queue = stage("quorum", stream_prefetch=100, **shared)
    sites = [site]
    if homes == "own":
        shared |= {"lake_url": site.lake.url, "stream_url": amqp_url, "stream_queues": queue, "stream_prefetch": 100}
        sites += [open_site(**shared) for _ in range(racing - 1)]
    started = [collect(each, "--follow") for each in (sites * racing)[:racing]]
    wait_for(lambda: consumers(amqp_url, queue) == racing, "all consumers")
    made = traffic(7, notifications=1800, polling=200, samples=20)
    publish(amqp_url, "", queue, mixed([*made.bodies, *made.bodies[:200]]))
    wait_for(lambda: count(site, "notifications") == len(made.bodies), "the last landing")
    wait_for(lambda: depth(amqp_url, queue) == 0, "the end of the queue")
    for each in started:
        assert each.signalled(signal.SIGTERM) == 0, each.errors
    landed = [sum(part["landed"] for part in each.figures) for each in started]
    assert sum(landed) == len(made.bodies)
    assert min(landed) > 0
    finish(collect, site, queue, amqp_url)
    assert_exact(site, [made])


def test_a_consumer_slower_than_the_consumer_timeout_lands_each_message_once_and_ends(
    stage: Stage, collect: Collect, own_broker: Broker
) -> None:
    site, queue = stage("quorum", own_broker.url, stream_prefetch=100)
    made = traffic(8, notifications=100, polling=20, samples=20)
    publish(own_broker.url, "", queue, made.bodies)
    own_broker.set_consumer_timeout(2000)
    collector = collect(site, fault="slow(landing, '_as_table', 4.0)")
    assert collector.ended() == 0, collector.errors
    assert "timed out" in collector.errors
    assert sum(part["redelivered"] for part in collector.figures) > 0
    assert_exact(site, [made])


def test_a_tenth_of_the_messages_redelivered_and_a_tenth_malformed(
    stage: Stage, collect: Collect, amqp_url: str
) -> None:
    site, queue = stage("quorum", stream_prefetch=500)
    made = traffic(9, notifications=1500, polling=100, samples=20)
    bad = malformed(9, 160)
    publish(amqp_url, "", queue, mixed([*made.bodies, *made.bodies[:160], *bad]))
    collector = collect(site)
    assert collector.ended() == 0, collector.errors
    (said,) = collector.figures
    assert (said["messages"], said["landed"], said["redelivered"], said["dead_letters"]) == (1920, 1600, 160, 160)
    assert_exact(site, [made], 160)


@pytest.mark.parametrize("fault", ["", MOMENTS["between dead letters and landing"], "after(collect, '_land')"])
def test_each_of_several_equal_malformed_messages_is_a_dead_letter(
    stage: Stage, collect: Collect, amqp_url: str, fault: str
) -> None:
    site, queue = stage()
    publish(amqp_url, "", queue, [b'{"no": "notification"}'] * 50)
    if fault:
        assert collect(site, fault=fault).ended() == -signal.SIGKILL
        assert count(site, "dead_letters") == 50
    finish(collect, site, queue, amqp_url)
    assert_exact(site, [], 50)


# --- the lake's disk is full, the warehouse is away ---------------------------------------------------


class SmallDisk:
    """A context manager for a file system of some MiB that only processes in its namespace see."""

    MIB, PAGE = 8, 1 << 12

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        inside = f"mount -t tmpfs -o size={self.MIB}m tmpfs {folder} && echo mounted && exec sleep infinity"
        own = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--mount", "--map-root-user"]
        self._holder = subprocess.Popen([*own, "sh", "-c", inside], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert self._holder.stdout is not None
        said = self._holder.stdout.readline().decode()
        if said != "mounted\n":
            self._holder.communicate()
            pytest.fail(f"this test needs to mount a tmpfs in a namespace of its own: {said}", pytrace=False)

    def __enter__(self) -> "SmallDisk":
        return self

    def __exit__(self, *_: object) -> None:
        self._holder.kill()
        self._holder.communicate()

    @property
    def seen(self) -> Path:
        """The path at which other processes see its content."""
        return Path(f"/proc/{self._holder.pid}/root{self.folder}")

    @property
    def entered(self) -> list[str]:
        """The start of a command that should see it."""
        user = [] if os.geteuid() == 0 else ["--user", "--preserve-credentials"]
        return ["nsenter", "--target", str(self._holder.pid), *user, "--mount"]

    def fill(self) -> Path:
        """Fill it to the last byte; return the file that fills it."""
        filler = self.seen / "filler"
        with filler.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
            file.writelines(itertools.repeat(bytes(self.PAGE)))
        return filler


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """A small disk for a lake."""
    with SmallDisk(tmp_path / "disk") as made:
        yield made


def on_disk(stage: Stage, disk: SmallDisk, url: str) -> tuple[Site, str]:
    """A queue, and a site that consumes it into a lake on the disk."""
    site, queue = stage(url=url, stream_prefetch=1000)
    # Processes of the test see another folder at the lake's path.
    shutil.copytree(site.lake.url, disk.seen / "lake")
    shutil.rmtree(site.lake.url)
    Path(site.lake.url).symlink_to(disk.folder / "lake")
    return site, queue


def brought_back(site: Site, disk: SmallDisk) -> None:
    """Copy the lake to where the test sees it."""
    Path(site.lake.url).unlink()
    shutil.copytree(disk.seen / "lake", site.lake.url)


def waiting(broker: Broker, queue: str) -> int:
    """The number of messages in a queue, including those that are taken and not acknowledged."""
    listed = broker.control("list_queues", "--quiet", "--no-table-headers", "name", "messages")
    return int(dict(line.split() for line in listed.splitlines())[queue])


QUICKLY = "collect.RETRY_SECONDS = (0.05, 0.2)"


def test_a_full_disk_is_waited_for_and_nothing_is_lost(
    stage: Stage, collect: Collect, own_broker: Broker, disk: SmallDisk
) -> None:
    site, queue = on_disk(stage, disk, own_broker.url)
    made, bad = traffic(10, notifications=1000, polling=100, samples=20), malformed(10, 100)
    bodies = mixed([*made.bodies, *bad])
    filler = disk.fill()
    publish(own_broker.url, "", queue, bodies)
    collector = collect(site, "--follow", fault=QUICKLY, entered=disk.entered)
    wait_for(lambda: collector.errors.count("retrying in") >= 3, "the warnings")
    assert "No space left" in collector.errors
    assert waiting(own_broker, queue) == len(bodies)
    no_commit = "written: Generic LocalFileSystem error: No space left on device"
    for _ in range(100):  # page by page, until there is room for a data file but not for its commit
        warned = collector.errors.count("retrying in")
        if no_commit in collector.errors:
            break
        os.truncate(filler, filler.stat().st_size - SmallDisk.PAGE)
        with suppress(AssertionError):  # it continues without a warning if there was room for a batch
            wait_for(lambda warned=warned: collector.errors.count("retrying in") > warned, "a warning", 0.5)
    assert "written: [Errno 28] No space left on device" in collector.errors, "no data file failed"
    assert no_commit in collector.errors, "no commit failed"
    filler.unlink()
    wait_for(lambda: depth(own_broker.url, queue) == 0, "the end of the queue")
    assert collector.signalled(signal.SIGTERM) == 0, collector.errors
    last = collect(site, entered=disk.entered)
    assert last.ended() == 0, last.errors
    brought_back(site, disk)
    assert_exact(site, [made], len(bad))
    assert left_behind(site) == set()


def test_one_collection_onto_a_full_disk_fails_in_one_line_and_writes_nothing_more(
    stage: Stage, collect: Collect, amqp_url: str, disk: SmallDisk
) -> None:
    site, queue = on_disk(stage, disk, amqp_url)
    made = traffic(11, notifications=1000)
    filler = disk.fill()
    os.truncate(filler, filler.stat().st_size - 4 * SmallDisk.PAGE)
    publish(amqp_url, "", queue, made.bodies)
    before = sorted(disk.seen.rglob("*.*"))
    for _ in range(2):
        failed = collect(site, entered=disk.entered)
        assert failed.ended() == 1
        (said,) = failed.errors.splitlines()
        assert "the lake's table notifications cannot be read or written: " in said
        assert "No space left" in said
        wait_for(lambda: depth(amqp_url, queue) == len(made.bodies), "what was not acknowledged")
    assert sorted(disk.seen.rglob("*.*")) == before
    filler.unlink()
    last = collect(site, entered=disk.entered)
    assert last.ended() == 0, last.errors
    brought_back(site, disk)
    assert_exact(site, [made])
    assert left_behind(site) == set()


def test_an_unavailable_warehouse_does_not_hold_up_landing(
    stage: Stage, collect: Collect, amqp_url: str, postgres_warehouse: str
) -> None:
    with Proxy(postgres_warehouse) as proxy:
        site, queue = stage(warehouse_url=proxy.url, stream_prefetch=400)
        made = traffic(12, notifications=3000, polling=200, samples=20)
        publisher = Publisher(amqp_url, queue, made.bodies, per_second=len(made.bodies) / AWAY_SECONDS)
        publisher.start()
        collector = collect(site, "--follow")
        wait_for(lambda: count(site, "events"), "the first conversion")
        proxy.refuse()
        begun, landed = time.monotonic(), [count(site, "notifications")]
        while time.monotonic() - begun < AWAY_SECONDS:
            time.sleep(AWAY_SECONDS / 6)
            landed.append(count(site, "notifications"))
            assert landed[-1] > landed[-2]
        publisher.join()
        wait_for(lambda: count(site, "notifications") == len(made.bodies), "the last landing")
        wait_for(lambda: depth(amqp_url, queue) == 0, "the end of the queue")
        converted = count(site, "events")
        assert converted < made.events
        proxy.pass_on()
        wait_for(lambda: count(site, "events") == made.events, "the last conversion")
        assert collector.signalled(signal.SIGTERM) == 0, collector.errors
        assert "landing continues" in collector.errors
        finish(collect, site, queue, amqp_url)
        assert_exact(site, [made])
        site.warehouse.engine.dispose()


# --- it is asked to end ------------------------------------------------------------------------------


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_consumer_that_is_stopped_acknowledges_what_it_landed(
    stage: Stage, amqp_url: str, collect: Collect, number: int, status: int
) -> None:
    site, queue = stage("quorum", stream_prefetch=200)
    made = traffic(13, notifications=1500, polling=100, samples=20)
    publisher = Publisher(amqp_url, queue, made.bodies, per_second=500)
    command = [str(Path(sys.executable).with_name("meterhouse")), "collect", "--follow"]
    with subprocess.Popen(
        command, env=os.environ | environment(site), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    ) as process:
        wait_for(lambda: consumers(amqp_url, queue) or process.poll() is not None, "the consumer")
        publisher.start()
        wait_for(lambda: count(site, "notifications") > 300, "the first landings")
        process.send_signal(number)
        asked = time.monotonic()
        _, said = process.communicate(timeout=60)
        assert (process.returncode, said.strip()) == (status, b"")
        assert time.monotonic() - asked < 20
    publisher.join()
    landed = count(site, "notifications")
    assert depth(amqp_url, queue) == len(made.bodies) - landed
    finish(collect, site, queue, amqp_url)
    assert_exact(site, [made])
