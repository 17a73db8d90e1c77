"""The HTTP API: how long questions take, and how many it answers a second, with the load generator on the same cores.

    python bench/api.py [--only PART,…] [--series N] [--home FOLDER] [--quick]

The site has 30 days of hourly roll-ups of 10,000 series, their points of the last 2 days a minute apart, and 100,000
resources with one point each. `meterhouse api` runs as a process of its own.

Parts:

- questions: one client, each question another one, so that none is answered from those that are kept.
- posting: one client posts 100 samples at a time: into the spool, and with `direct`.
- clients: 16 clients: the same questions again and again, different ones, and alarms that are created, shown, changed
  and deleted.
- gnocchi: Gnocchi's API on the same points of a smaller site, asked the same two questions as ours, in the same run.

Each line has the target of its figure. A question's is its median.
"""

import contextlib
import itertools
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from urllib.parse import urlencode

import _api_site
from _load import Answered, Call, Client, one_after_the_other, together
from _parts import again_with, parsed
from _points import METERS, Fleet
from _processes import family
from _processes import seconds as cpu_seconds

from meterhouse import times

METER = METERS[0][0]
CLIENTS = 16
SECONDS = 8.0
ROUNDS = 60

# What is asked: each function gives a request for a number, another one for each.


def span(start: datetime, end: datetime) -> list[tuple[str, str]]:
    """The arguments of a query for a span of time."""
    return [
        *(("q.field", "timestamp"), ("q.op", "ge"), ("q.value", start.replace(tzinfo=None).isoformat())),
        *(("q.field", "timestamp"), ("q.op", "lt"), ("q.value", end.replace(tzinfo=None).isoformat())),
    ]


class Questions:
    """The questions of the issue, on the site of some sizes."""

    def __init__(self, sizes: _api_site.Sizes) -> None:
        self._sizes = sizes
        dimensions = Fleet(sizes.series).dimensions
        chosen = [n for n, meter in enumerate(dimensions["meter"]) if meter == METER]
        self.resources = [dimensions["resource_id"][n] for n in chosen]
        self.projects = sorted({dimensions["project_id"][n] for n in chosen})

    def by_project(self, number: int) -> Call:
        """Hourly means by project over a day."""
        days, hours = divmod(number, 24)
        start = _api_site.START + (days % (self._sizes.days - 1)) * times.DAY + hours * times.HOUR
        asked = [("period", "3600"), ("groupby", "project_id"), ("aggregate.func", "avg")]
        return self._statistics([*span(start, start + times.DAY), *asked])

    def month(self, number: int) -> Call:
        """A resource's month by day."""
        resource = self.resources[number % len(self.resources)]
        whole = [*span(_api_site.START, self._sizes.end), ("period", "86400"), ("q.field", "resource_id")]
        return self._statistics([*whole, ("q.op", "eq"), ("q.value", resource)])

    def newest(self, number: int) -> Call:
        """The newest 100 samples of a meter."""
        until = self._sizes.end + timedelta(microseconds=number)
        asked = [("q.field", "timestamp"), ("q.op", "lt"), ("q.value", until.replace(tzinfo=None).isoformat())]
        return Call(f"/v2/meters/{METER}?{urlencode([*asked, ('limit', '100')])}")

    def complex(self, number: int) -> Call:
        """Samples by five terms."""
        one, other = (self.projects[(number + n) % len(self.projects)] for n in (0, 1))
        wanted = (
            f'{{"and": [{{"=": {{"meter": "{METER}"}}}}, {{"in": {{"project_id": ["{one}", "{other}"]}}}}, '
            f'{{">": {{"volume": {50 + number % 40}}}}}, {{"not": {{"=": {{"source": "other"}}}}}}, '
            f'{{"<": {{"timestamp": "{self._sizes.end.replace(tzinfo=None).isoformat()}"}}}}]}}'
        )
        return Call("/v2/query/samples", "POST", {"filter": wanted, "limit": 100})

    @staticmethod
    def _statistics(asked: list[tuple[str, str]]) -> Call:
        return Call(f"/v2/meters/{METER}/statistics?{urlencode(asked)}")


@contextlib.contextmanager
def api(home: Path) -> Iterator[tuple[str, int, int]]:
    """Serve the site of a folder: the host, the port and the process."""
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("METERHOUSE_")}
    environment["METERHOUSE_HOME"] = str(home)
    command = [sys.executable, "-m", "meterhouse", "api", "--port", str(port)]
    with subprocess.Popen(command, env=environment) as server:
        try:
            end = time.monotonic() + 60
            while True:
                try:
                    Client("127.0.0.1", port).ask(Call("/healthz"))
                    break
                except OSError:
                    if server.poll() is not None or time.monotonic() > end:
                        raise
                    time.sleep(0.1)
            yield "127.0.0.1", port, server.pid
        finally:
            server.send_signal(signal.SIGTERM)


def shown(name: str, figure: float, unit: str, target: str, more: str = "") -> None:
    """Print a line."""
    print(f"{name:58}{figure:10,.1f} {unit:11}{target:>12}  {more}", flush=True)


def latency(name: str, found: Answered, target: float | None) -> None:
    """Print the median of a question."""
    wanted = f"<= {target:g} ms" if target else ""
    shown(name, found.p50, "ms", wanted, f"95 %: {found.p95:.1f} ms, {len(found.last):,} bytes")


def questions(client: Client, asked: Questions, rounds: int, sizes: _api_site.Sizes) -> None:
    """One client, each question another one."""
    for name, target, make in (
        ("hourly means by project, a day", 30, asked.by_project),
        ("a resource's month by day", 20, asked.month),
        ("the newest 100 samples of a meter", 100, asked.newest),
        ("a complex query of 5 terms", 300, asked.complex),
    ):
        latency(name, one_after_the_other(client, [make(number) for number in range(rounds)]), target)
    again = [asked.by_project(0)] * rounds
    latency("hourly means by project, a day, the same question again", one_after_the_other(client, again), None)
    latency(f"a page of 100 resources of {sizes.resources:,}", _pages(client, rounds), 50)


def _pages(client: Client, rounds: int) -> Answered:
    """Pages of resources one after the other, each from the marker of the one before."""
    import json

    taken, body, path = [], b"", "/v2/resources?meter_links=0&limit=100"
    began = time.perf_counter()
    for _ in range(rounds):
        clock = time.perf_counter()
        body = client.ask(Call(path))
        taken.append((time.perf_counter() - clock) * 1e3)
        marker = json.loads(body)[-1]["resource_id"]
        path = f"/v2/resources?meter_links=0&limit=100&{urlencode({'marker': marker})}"
    return Answered(taken, time.perf_counter() - began, body)


def posting(client: Client, rounds: int) -> None:
    """One client posts 100 samples at a time."""
    for name, more, target in (("100 samples posted, durable", "", 20), ("the same, direct", "?direct=true", 100)):
        calls = [Call(f"/v2/meters/power{more}", "POST", _samples(number, name)) for number in range(rounds)]
        latency(name, one_after_the_other(client, calls), target)


def _samples(number: int, what: str) -> list[dict[str, object]]:
    moment = times.now().replace(tzinfo=None, microsecond=0) - timedelta(seconds=number)
    return [
        {
            "counter_name": "power",
            "counter_type": "gauge",
            "counter_unit": "W",
            "counter_volume": number + 0.5,
            "resource_id": f"{what} {resource}",
            "project_id": "bench",
            "timestamp": moment.isoformat(),
            "resource_metadata": {"room": "north", "rack": str(resource)},
        }
        for resource in range(100)
    ]


def clients(host: str, port: int, server: int, asked: Questions) -> None:
    """16 clients at once."""
    same = [make(number) for make in (asked.by_project, asked.month, asked.newest) for number in range(4)]
    numbers = itertools.count(1_000)

    def repeated(client: Client, number: int, turn: int) -> int:
        client.ask(same[(number + turn) % len(same)])
        return 1

    def distinct(client: Client, number: int, turn: int) -> int:
        make = (asked.by_project, asked.month)[turn % 2]
        client.ask(make(next(numbers)))
        return 1

    def alarms(client: Client, number: int, turn: int) -> int:
        import json

        rule = {"meter_name": METER, "threshold": 90.0, "comparison_operator": "gt", "period": 60}
        rule["query"] = [{"field": "resource_id", "op": "eq", "value": asked.resources[number]}]
        alarm = {"name": f"bench {number} {turn}", "type": "threshold", "threshold_rule": rule}
        made = json.loads(client.ask(Call("/v2/alarms", "POST", alarm)))
        path = f"/v2/alarms/{made['alarm_id']}"
        client.ask(Call(path))
        client.ask(Call(path, "PUT", {**made, "severity": "critical"}))
        client.ask(Call(path, "DELETE"))
        return 4

    for name, target, work in (
        ("the same questions again and again", 200, repeated),
        ("different questions", 40, distinct),
        ("alarms created, shown, changed, deleted", 300, alarms),
    ):
        before = cpu_seconds(*family(server))
        found = together(host, port, CLIENTS, SECONDS, work)
        used = (cpu_seconds(*family(server)) - before) / len(found.milliseconds) * 1e3
        share = used * found.rate / 1e3
        more = f"{used:.2f} ms of CPU each in the server ({share:.2f} cores), 95 %: {found.p95:.0f} ms"
        shown(name, found.rate, "requests/s", f">= {target}/s", more)


def gnocchi(quick: bool) -> None:
    """Gnocchi's API and ours, on the same points."""
    postgres = os.environ.get("METERHOUSE_TEST_POSTGRES_URL")
    if not postgres:
        print("Gnocchi needs a PostgreSQL: it is left out")
        return
    import _gnocchi_api

    fleet, minutes = Fleet(60 if quick else 900), 180 if quick else 1_440
    rounds = 5 if quick else 30
    with tempfile.TemporaryDirectory() as folder:
        sizes = _api_site.Sizes(fleet.series, 1, 1, 100)
        _api_site.build(Path(folder) / "ours", sizes)
        mine = Questions(sizes)
        start, end = _api_site.START, _api_site.START + timedelta(minutes=minutes)
        print(f"\nBeside Gnocchi: {fleet.series // 3:,} resources of {METER}, {minutes:,} points each", flush=True)
        with api(Path(folder) / "ours") as (host, port, _):
            client = Client(host, port)
            # Spans that end later are different questions with the same answer.
            calls = [_of_day(start, end, number) for number in range(rounds)]
            latency("Meterhouse: hourly means by project, a day", one_after_the_other(client, calls), None)
            latency(
                "Meterhouse: a resource's day by hour",
                one_after_the_other(client, [_of_resource(mine, start, end, number) for number in range(rounds)]),
                None,
            )
        with _gnocchi_api.served(postgres, Path(folder) / "gnocchi", fleet, start, minutes, METER) as (host, port):
            client = Client(host, port)
            calls = [_gnocchi_api.by_project(METER, start, end)] * rounds
            latency("Gnocchi: hourly means by project, a day", one_after_the_other(client, calls), None)
            calls = [_gnocchi_api.of_resource(METER, mine.resources[number], start, end) for number in range(rounds)]
            latency("Gnocchi: a resource's day by hour", one_after_the_other(client, calls), None)


def _of_day(start: datetime, end: datetime, number: int) -> Call:
    asked = [("period", "3600"), ("groupby", "project_id"), ("aggregate.func", "avg")]
    until = end + number * times.HOUR
    return Call(f"/v2/meters/{METER}/statistics?{urlencode([*span(start, until), *asked])}")


def _of_resource(asked: Questions, start: datetime, end: datetime, number: int) -> Call:
    of = [("q.field", "resource_id"), ("q.op", "eq"), ("q.value", asked.resources[number]), ("period", "3600")]
    return Call(f"/v2/meters/{METER}/statistics?{urlencode([*span(start, end), *of, ('aggregate.func', 'avg')])}")


PARTS = ("questions", "posting", "clients", "gnocchi")


def main(arguments: list[str]) -> None:
    """Measure the chosen parts."""
    home = None
    if "--home" in arguments:
        at = arguments.index("--home")
        home = Path(arguments[at + 1])
        arguments = arguments[:at] + arguments[at + 2 :]
    given = parsed("The HTTP API.", PARTS, _api_site.Sizes.series, arguments)
    if "gnocchi" in given.only:
        again_with("postgres", __file__, sys.argv[1:])
    sizes = _api_site.Sizes(120, 3, 1, 500) if given.quick else _api_site.Sizes(given.series)
    rounds = 6 if given.quick else ROUNDS
    with contextlib.ExitStack() as held:
        if home is None:
            home = Path(held.enter_context(tempfile.TemporaryDirectory()))
        if set(given.only) - {"gnocchi"}:
            _api_site.build(home, sizes)
            asked = Questions(sizes)
            print(f"{sizes.series:,} series, {sizes.days} days, {sizes.raw_days} raw\n{'':58}{'':>22}{'target':>12}")
            with api(home) as (host, port, server):
                client = Client(host, port)
                if "questions" in given.only:
                    questions(client, asked, rounds, sizes)
                if "posting" in given.only:
                    posting(client, rounds)
                if "clients" in given.only:
                    clients(host, port, server, asked)
    if "gnocchi" in given.only:
        gnocchi(given.quick)


if __name__ == "__main__":
    main(sys.argv[1:])
