"""Polling: lists of JSON to recorded slots, beside Ceilometer 27.0.0's polling agent.

    python bench/poll.py [--only list,many,members,latency,claims,idle] [--no-peer]

Members are processes of `meterhouse poll --follow` on an empty site: its warehouse in PostgreSQL, its lake in a folder.
A JSON server of `deploy/services` is polled, which makes its answers once. The seconds of a slot are those from its
start until its last task is recorded: waking up, claiming, asking, reading, landing and recording are in them. CPU
seconds are of the members' processes; neither the JSON server nor PostgreSQL is in them.

- `list`: one list of 10,000 resources, one member; then Ceilometer's agent on the same list. It signs its samples, so
  ours are signed too. It throws them away; ours are landed. Its cycle is measured from the begin of the poll.
- `many`: 1,000 endpoints of 10 resources, each of which takes 50 ms to answer, one member.
- `members`: the same slots of 200 sources by one member and by two: what their CPU seconds are.
- `latency`: more sources than one member has time for, of which each takes a second to answer, by one and by two.
- `claims`: how many tasks a second a member claims, 32 or 500 at a time.
- `idle`: what a member with 1,000 sources costs while none of them is due.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

from _ceilometer import VERSION
from _ceilometer_polling import DEFINITION, LIST, POLLSTER, Keystone, cycles
from _parts import again_with
from _poll_site import PollSite, Ran, database, lists
from sqlalchemy import insert, update

from meterhouse import times
from meterhouse.polling import record
from meterhouse.stores.warehouse_tables import poll_tasks

RESOURCES, ENDPOINTS, OF_EACH = 10_000, 1_000, 10
SOURCES, SLOW_SOURCES = 200, 400
TASKS = 20_000
IDLE_SOURCES = 1_000
SECRET = {"METERHOUSE_TELEMETRY_SECRET": "secret"}


def pollster(entries: str, **more: Any) -> dict[str, Any]:
    """The pollster of lists: what is below their address."""
    return {**DEFINITION, "endpoint_type": "bench", "url_path": entries, **more}


def source(name: str, interval: int, *resources: str, **more: Any) -> dict[str, Any]:
    """A source of polling.yaml."""
    return {"name": name, "interval": interval, "meters": [POLLSTER], "resources": list(resources), **more}


def ready(count: int = 1) -> Callable[[PollSite], bool]:
    """Whether this many tasks were polled: then imports and the first connections are over."""
    return lambda site: site.done() >= count


def spread(found: list[float]) -> str:
    return f"{min(found):.2f} to {max(found):.2f} s, median {statistics.median(found):.2f}" if found else "none"


def shown(name: str, ran: Ran) -> None:
    """Print what members did."""
    slots = ran.slots
    print(f"{name:38}{slots.tasks:7,} tasks, {slots.samples:9,} samples, {slots.missed} missed; CPU {ran.cpu:.2f} s")
    print(f"  a slot takes {spread(slots.seconds)}")


def list_of_many(folder: Path, url: str, warehouse: str, with_peer: bool) -> None:
    """One list of many resources."""
    for name, variables in (("signed", SECRET), ("not signed", {})):
        place = folder / name
        site = PollSite(
            place, warehouse, [source("list", 5, f"{url}/lists/{LIST}")], pollster(str(RESOURCES)), **variables
        )
        ran = site.ran(1, ready(2), 30)
        shown(f"Meterhouse, {name}", ran)
        rates = [RESOURCES / each for each in ran.slots.seconds]
        if rates:
            cpu = ran.slots.samples / ran.cpu
            print(f"  {statistics.median(rates):,.0f} samples/s landed (median slot), {cpu:,.0f} a CPU second")
        _emptied(site)
    if with_peer:
        found = cycles(Keystone.of_tests(), url, folder / "peer", 5, 10)
        rate = RESOURCES / statistics.median(found.seconds)
        cpu = RESOURCES * len(found.seconds) / found.cpu
        print(f"Ceilometer {VERSION}: a cycle {spread(found.seconds)}; CPU {found.cpu:.2f} s")
        print(f"  {rate:,.0f} samples/s thrown away (median cycle), {cpu:,.0f} a CPU second")


def many_endpoints(folder: Path, url: str, warehouse: str) -> None:
    """Many endpoints of few resources that answer slowly."""
    addresses = [f"{url}/lists/e{number}" for number in range(ENDPOINTS)]
    poll = pollster(f"{OF_EACH}?seconds=0.05", response_entries_key=None)
    del poll["response_entries_key"]
    site = PollSite(folder, warehouse, [source("many", 10, *addresses)], poll)
    shown(f"{ENDPOINTS:,} endpoints, 50 ms each", site.ran(1, ready(), 40))


def by_members(folder: Path, url: str, warehouse: str) -> None:
    """The same slots by one member and by two."""
    poll = pollster(str(OF_EACH))
    sources = [source(f"s{number}", 5, f"{url}/lists/{LIST}") for number in range(SOURCES)]
    found = []
    for count in (1, 2):
        site = PollSite(folder / str(count), warehouse, sources, poll)
        found.append(site.ran(count, ready(2 * SOURCES), 30))
        shown(f"{SOURCES} sources, {count} member{'s' * (count > 1)}", found[-1])
        _emptied(site)
    each = [ran.cpu / ran.slots.tasks for ran in found]
    print(f"  CPU of two members for the same slots: {each[1] / each[0]:.2f} × that of one")


def by_latency(folder: Path, url: str, warehouse: str) -> None:
    """More than one member has time for, by one and by two."""
    poll = pollster(f"{OF_EACH}?seconds=1")
    sources = [source(f"s{number}", 10, f"{url}/lists/{LIST}") for number in range(SLOW_SOURCES)]
    found = []
    for count in (1, 2):
        site = PollSite(folder / str(count), warehouse, sources, poll, METERHOUSE_POLL_CONCURRENCY="8")
        found.append(site.ran(count, ready(8), 40))
        shown(f"{SLOW_SOURCES} sources of 1 s, {count} member{'s' * (count > 1)}", found[-1])
        _emptied(site)
    print(f"  slots of two members: {found[1].slots.tasks / found[0].slots.tasks:.2f} × those of one")


def claims(folder: Path, warehouse: str) -> None:
    """How quickly tasks are claimed."""
    site = PollSite(folder, warehouse, [], pollster("1")).site
    now = times.now()
    row: dict[str, Any] = {"source": "bench", "pollster": POLLSTER, "host": "", "state": "open", "shard": "1/1"}
    row |= {"end_at": now + timedelta(hours=1), "until": now + timedelta(hours=1), "due_at": now, "slot_at": now}
    rows = [{**row, "source": f"s{number}", "message_id": str(number)} for number in range(TASKS)]
    member = record.Member("bench", frozenset({"central"}), 60.0, "")
    with site.warehouse.begin() as connection:
        connection.execute(insert(poll_tasks), rows)
    record.join(site.warehouse, member)
    for at_once in (32, 500):
        with site.warehouse.begin() as connection:
            connection.execute(update(poll_tasks).values(state="open", owner=None, lease_until=None))
        began, claimed = time.perf_counter(), 0
        while found := record.claim(site.warehouse, member, at_once, per_source=at_once // 2):
            claimed += len(found)
        lasted = time.perf_counter() - began
        if claimed != TASKS:
            sys.exit(f"{claimed} of {TASKS} tasks were claimed")
        print(f"claims, {at_once} at a time: {claimed / lasted:,.0f} tasks/s")


def idle(folder: Path, url: str, warehouse: str) -> None:
    """A member that waits."""
    sources = [source(f"s{number}", 86_400, f"{url}/lists/{LIST}") for number in range(IDLE_SOURCES)]
    ran = PollSite(folder, warehouse, sources, pollster("1")).ran(1, lambda site: _scheduled(site), 60)
    print(f"idle, {IDLE_SOURCES:,} sources: {100 * ran.cpu / ran.wall:.2f} % of a core")


def _scheduled(site: PollSite) -> bool:
    """Whether the member has read its files a while ago."""
    with site.site.warehouse.read() as connection:
        found = connection.exec_driver_sql("SELECT count(*), max(changed_at) FROM poll_schedules").one()
    if found[0] < IDLE_SOURCES:
        return False
    time.sleep(5)
    return True


def _emptied(site: PollSite) -> None:
    """Forget what was polled: the next site is on the same database."""
    with site.site.warehouse.begin() as connection:
        for table in ("poll_tasks", "poll_schedules", "poll_members"):
            connection.exec_driver_sql(f"DELETE FROM {table}")


def main(arguments: list[str]) -> None:
    parts = ("list", "many", "members", "latency", "claims", "idle")
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", default=",".join(parts), help=f"parts, separated by commas: {', '.join(parts)}")
    parser.add_argument("--no-peer", action="store_true", help="without Ceilometer")
    given = parser.parse_args(arguments)
    if unknown := set(given.only.split(",")) - set(parts):
        parser.error(f"there is no part {min(unknown)}: choose from {', '.join(parts)}")
    again_with("postgres,keystone", __file__, arguments)
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores before it")
    for part in given.only.split(","):
        with tempfile.TemporaryDirectory() as name, database() as warehouse, lists() as url:
            folder = Path(name)
            if not warehouse:
                print("without PostgreSQL: the warehouse is SQLite")
            match part:
                case "list":
                    list_of_many(folder, url, warehouse, not given.no_peer)
                case "many":
                    many_endpoints(folder, url, warehouse)
                case "members":
                    by_members(folder, url, warehouse)
                case "latency":
                    by_latency(folder, url, warehouse)
                case "claims":
                    claims(folder, warehouse)
                case "idle":
                    idle(folder, url, warehouse)


if __name__ == "__main__":
    main(sys.argv[1:])
