"""Answers that take long: they are cancelled, and hold up no others."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Annotated, Any

import httpx
import pytest
from api_server import served
from builders import land_points, point
from conftest import OpenSite
from fastapi import FastAPI, Response
from sqlalchemy import text

from meterhouse import cancelling, costs
from meterhouse.api.answers.json_text import answer
from meterhouse.api.asked import Asked, allowed
from meterhouse.queries.samples import samples
from meterhouse.scopes import EVERYTHING
from meterhouse.site import Site

Work = Callable[[Site], Any]

PATIENCE = 20
"""Seconds in which a busy machine does what takes a moment."""


def in_duckdb(site: Site) -> Any:
    """Count for ever."""
    with site.lake.connect() as duck:
        return duck.execute("SELECT count(*) FROM range(1000000000000) WHERE range % 7 = 3").fetchall()


def in_warehouse(site: Site) -> Any:
    """Count for ever."""
    counting = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n"
    with site.warehouse.read() as connection:
        return connection.execute(text(counting)).all()


def in_points(site: Site) -> Any:
    """Read points for ever."""
    while True:
        samples(site, EVERYTHING, "m")


def in_many_statements(site: Site) -> Any:
    """Begin short statements for ever: an interrupt may come between two of them."""
    with site.lake.connect() as duck:
        while True:
            duck.execute("SELECT 1").fetchall()


ENDLESS = (in_duckdb, in_warehouse, in_points, in_many_statements)


class Serving:
    """A served site with paths of the test, and what is being done of them."""

    def __init__(self, app: FastAPI, url: str) -> None:
        self.url, self.lanes = url, app.state.lanes
        self.begun = app.state.begun

    def busy(self) -> list[int]:
        """How many jobs are being done, by lane."""
        return [lane.busy for lane in self.lanes.all]

    def wait_until_idle(self) -> None:
        """Wait until no job is being done, and none waits."""
        until(lambda: not any(self.busy()) and not any(lane.queued for lane in self.lanes.all))


def until(holds: Callable[[], object]) -> None:
    """Wait until something holds."""
    end = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < end, "it does not come to that"
        time.sleep(0.01)


@contextmanager
def serving(site: Site, **works: Work) -> Iterator[Serving]:
    """Serve a site with a path for each of these works, which GET and POST do."""
    made: list[FastAPI] = []

    def prepare(app: FastAPI) -> None:
        made.append(app)
        app.state.begun = threading.Semaphore(0)
        for name, work in works.items():
            _add_path(app, name, work)

    with served(site, prepare) as url:
        yield Serving(made[0], url)


def _add_path(app: FastAPI, name: str, work: Work) -> None:
    async def endpoint(asked: Annotated[Asked, allowed("telemetry:get_meters")]) -> Response:
        def begun() -> Any:
            app.state.begun.release()
            return work(asked.site)

        return answer(await asked.run(begun))

    app.add_api_route(f"/{name}", endpoint, methods=["GET", "POST"])


@pytest.fixture
def filled(site: Site) -> Site:
    """A site with a point."""
    land_points(site, [point(1)])
    return site


def quick(site: Site) -> list[str]:
    """A question that is answered at once."""
    with site.warehouse.read() as connection:
        return [str(connection.execute(text("SELECT 'yes'")).scalar())]


def test_work_ends_when_its_client_goes(filled: Site) -> None:
    works = {work.__name__: work for work in ENDLESS}
    with serving(filled, **works) as served:
        for name in works:
            with pytest.raises(httpx.ReadTimeout):
                httpx.get(f"{served.url}/{name}", timeout=0.3)
            assert served.begun.acquire(timeout=PATIENCE)
            served.wait_until_idle()
    with filled.lake.connect() as duck:  # what was interrupted can be used
        assert duck.execute("SELECT 1").fetchall() == [(1,)]
    assert quick(filled) == ["yes"]


@pytest.mark.service
def test_postgresql_ends_a_statement_when_its_client_goes(open_site: OpenSite, postgres_warehouse: str) -> None:
    postgres_site = open_site(warehouse_url=postgres_warehouse)

    def endless(site: Site) -> Any:
        with site.warehouse.read() as connection:
            return connection.execute(text("SELECT pg_sleep(3600)")).all()

    running = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%' AND state = 'active'"
    with serving(postgres_site, endless=endless) as served:
        with pytest.raises(httpx.ReadTimeout):
            httpx.get(f"{served.url}/endless", timeout=0.5)
        served.wait_until_idle()
        with postgres_site.warehouse.read() as connection:
            assert connection.execute(text(running)).scalar() == 0
        for _ in range(3):  # no interrupt is left for those that come after it
            assert quick(postgres_site) == ["yes"]


def test_work_ends_with_the_time_of_its_request(open_site: OpenSite) -> None:
    site = open_site(api_seconds=0.4)
    land_points(site, [point(1)])
    with serving(site, **{work.__name__: work for work in ENDLESS}) as served:
        for work in ENDLESS:
            found = httpx.get(f"{served.url}/{work.__name__}", timeout=PATIENCE)
            assert found.status_code == 504
            assert found.json()["error_message"] == {
                "faultcode": "Server",
                "faultstring": "There is no answer after 0.4 seconds. Ask for less: a shorter span of time, one "
                "resource or project, a longer period, or a lower limit",
                "debuginfo": None,
            }
            served.wait_until_idle()


def test_work_that_changes_something_goes_on_to_its_end(open_site: OpenSite) -> None:
    site = open_site(api_seconds=0.4)
    may_end, ended = threading.Event(), threading.Event()

    def changing(site: Site) -> None:
        assert may_end.wait(PATIENCE)
        cancelling.check()
        ended.set()

    with serving(site, changing=changing) as served:
        found = httpx.post(f"{served.url}/changing", timeout=PATIENCE)
        assert (found.status_code, found.json()["error_message"]["faultstring"]) == (
            504,
            "It is not done after 0.4 seconds, and may still be done. Ask whether it was",
        )
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(f"{served.url}/changing", timeout=0.2)
        may_end.set()
        assert ended.wait(PATIENCE)
        served.wait_until_idle()


def test_quick_answers_do_not_wait_for_slow_ones(filled: Site) -> None:
    def seconds(served: Serving) -> float:
        with httpx.Client(base_url=served.url, timeout=PATIENCE) as ask:
            ask.get("/quick")
            clock = time.monotonic()
            for _ in range(20):
                assert ask.get("/quick").json() == ["yes"]
            return time.monotonic() - clock

    waiting = threading.Event()

    def slow(site: Site) -> None:
        waiting.wait(PATIENCE)

    def costly(site: Site) -> None:
        costs.expect(10_000_000)
        waiting.wait(PATIENCE)

    with serving(filled, quick=quick, slow=slow, costly=costly) as served, ThreadPoolExecutor(40) as clients:
        alone = seconds(served)
        asked = [
            clients.submit(httpx.get, f"{served.url}/{name}", timeout=2 * PATIENCE)
            for name in ["costly"] * 20 + ["slow"] * 12
        ]
        until(lambda: served.busy()[0] == 12)
        beside = seconds(served)
        waiting.set()
        assert {each.result().status_code for each in asked} == {200}
    assert beside < 10 * alone + 1


def test_few_of_what_costs_much_are_done_together(filled: Site) -> None:
    together, most, lock = 0, 0, threading.Lock()

    def costly(site: Site) -> None:
        nonlocal together, most
        costs.expect(10_000_000)
        with lock:
            together += 1
            most = max(most, together)
        time.sleep(0.02)
        with lock:
            together -= 1

    with serving(filled, costly=costly) as served, ThreadPoolExecutor(16) as clients:
        asked = [
            clients.submit(
                httpx.get,
                f"{served.url}/costly",
                headers={"X-Project-Id": f"p{n % 4}", "X-User-Id": "u"},
                timeout=PATIENCE,
            )
            for n in range(16)
        ]
        assert {each.result().status_code for each in asked} == {200}
        threads = served.lanes.all[2].threads
    assert 1 < most <= threads


def test_a_queue_that_is_full_says_when_to_come_again(filled: Site) -> None:
    waiting = threading.Event()

    def costly(site: Site) -> None:
        costs.expect(10_000_000)
        waiting.wait(PATIENCE)

    with serving(filled, costly=costly) as served:
        found: list[httpx.Response] = []

        async def ask() -> None:
            limits = httpx.Limits(max_connections=None)
            async with httpx.AsyncClient(base_url=served.url, timeout=PATIENCE, limits=limits) as client:
                asked = [asyncio.create_task(client.get("/costly")) for _ in range(80)]
                done, _ = await asyncio.wait(asked, return_when=asyncio.FIRST_COMPLETED)
                waiting.set()
                await asyncio.wait(asked)
                found.extend(each.result() for each in asked)
                assert all(each.result().status_code == 503 for each in done)

        asyncio.run(ask())
        served.wait_until_idle()
    refused = [each for each in found if each.status_code == 503]
    assert 0 < len(refused) < 80
    assert refused[0].headers["Retry-After"] == "5"
    assert refused[0].json()["error_message"]["faultstring"] == (
        "Too many questions wait for an answer. Ask again in 5 seconds"
    )


def test_projects_take_turns(filled: Site) -> None:
    waiting, begun = threading.Event(), list[str]()

    def of(project: str) -> Work:
        def costly(site: Site) -> None:
            costs.expect(10_000_000)
            begun.append(project)
            waiting.wait(PATIENCE)

        return costly

    with serving(filled, busy=of("busy"), other=of("other")) as served, ThreadPoolExecutor(16) as clients:
        large = served.lanes.all[2]
        asked = []
        for number, project in enumerate(["busy"] * 8 + ["other"]):
            headers = {"X-Project-Id": project, "X-User-Id": "u"}
            asked.append(clients.submit(httpx.get, f"{served.url}/{project}", headers=headers, timeout=PATIENCE))
            until(lambda number=number: large.queued + large.busy == number + 1)
        until(lambda: "other" in begun)
        assert begun == ["busy", "other"]
        waiting.set()
        assert {each.result().status_code for each in asked} == {200}
