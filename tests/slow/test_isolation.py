"""One project asks for what is another's, by each path and filter of the API, and finds nothing."""

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import httpx
import pytest
from api_server import client
from conftest import OpenSite
from isolation import BLIND, CHANGING, OWN, PROBES, SHARED, Names, Probe, marks_in, operations, renamed
from planted import headers, plant, with_sample_id

from meterhouse.api.app import create_app
from meterhouse.rollups.step import roll_up
from meterhouse.sample_quality.step import judge_hours
from meterhouse.site import Site

pytestmark = pytest.mark.slow

MEMBER = {"X-User-Id": OWN["user"], "X-Project-Id": OWN["project"], "X-Roles": "member"}
OTHERS = (
    {**MEMBER, "X-Roles": "reader"},
    {"X-User-Id": OWN["user"], "X-Roles": "member"},
    {"X-Project-Id": OWN["project"]},
    {**MEMBER, "X-Roles": "Member,reader,nosuch"},
)
OF_EVENTS = {**MEMBER, "X-Roles": "admin"}
"""An administrator sees the samples and alarms of all projects, but the events of the own one."""


class Attack:
    """The operations of a site, asked with its names and with names that nothing has.

    Attributes:
        faults: what an answer told.
        known: names that whoever asks has used before, so that they may be in answers.
    """

    def __init__(self, ask: httpx.Client, names: Names) -> None:
        self._ask, self.names, self.ghosts = ask, names, names.ghost()
        self.faults: list[str] = []
        self.known: set[str] = set()

    def send(self, operation: str, probe: Probe, who: dict[str, str]) -> httpx.Response:
        body = {} if probe.body is None else {"json": probe.body}
        return self._ask.request(operation.partition(" ")[0], probe.path, headers=who, **body)

    def compare(self, operation: str, who: dict[str, str], every: int) -> None:
        """Ask some of an operation, and compare the answers for what there is and for what there is not."""
        pairs = zip(PROBES[operation](self.names), PROBES[operation](self.ghosts), strict=True)
        for probe, ghost in islice(pairs, 0, None, every):
            real = self.send(operation, probe, who)
            self._look(operation, probe, who, real)
            if ghost == probe:
                continue
            other = self.send(operation, ghost, who)
            found = renamed(real.text, self.names, self.ghosts)
            if (real.status_code, found) != (other.status_code, renamed(other.text, self.names, self.ghosts)):
                self.faults.append(
                    f"{operation} {probe} is told from {ghost}: {real.status_code} {real.text[:300]} and "
                    f"{other.status_code} {other.text[:300]}"
                )

    def look(self, operation: str, who: dict[str, str], every: int = 1) -> None:
        """Ask some of an operation."""
        for probe in islice(PROBES[operation](self.names), 0, None, every):
            self._look(operation, probe, who, self.send(operation, probe, who))

    def _look(self, operation: str, probe: Probe, who: dict[str, str], answer: httpx.Response) -> None:
        given = f"{probe.path} {probe.body}"
        told = marks_in(f"{answer.text} {dict(answer.headers)}", self.names) - marks_in(given, self.names) - self.known
        if told or answer.status_code >= 500:
            told_of = [kind for kind, name in self.names.of.items() if name in told]
            self.faults.append(f"{operation} {probe} as {who}: {answer.status_code} {told_of} {answer.text[:300]}")

    def shows(self, operation: str) -> bool:
        """Whether the other project itself sees what is its own."""
        who = headers(self.names)
        return any(
            marks_in(self.send(operation, probe, who).text, self.names)
            - marks_in(f"{probe.path} {probe.body}", self.names)
            for probe in PROBES[operation](self.names)
        )


@pytest.fixture(params=["embedded", pytest.param("postgres", marks=pytest.mark.service)])
def site(request: pytest.FixtureRequest, open_site: OpenSite, tmp_path: Path) -> Site:
    given: dict[str, Any] = {"config_dir": tmp_path}
    if request.param == "postgres":
        given["warehouse_url"] = request.getfixturevalue("postgres_warehouse")
    return open_site(**given)


@pytest.fixture
def attack(site: Site) -> Iterator[Attack]:
    names = plant(site)
    with client(site) as ask:
        yield Attack(ask, with_sample_id(names, ask))


def test_nothing_of_another_project_is_shown_told_or_changed(site: Site, attack: Attack) -> None:
    # What changes something comes last: what it has made of marks would be shown.
    asked = sorted(operations(create_app(site)) & set(PROBES), key=lambda name: (name in CHANGING, name))
    before = _all_of(attack)
    for operation in asked:
        if operation not in BLIND and not attack.shows(operation):
            attack.faults.append(f"{operation} shows nothing to the project itself: its probes prove nothing")
    for operation in asked:
        attack.compare(operation, MEMBER, every=1 if site.warehouse.is_sqlite else 3)
        for who in OTHERS:
            attack.look(operation, who, every=9)
        if operation.startswith("GET /v2/events"):
            attack.look(operation, OF_EVENTS)
    assert not attack.faults, "\n".join(attack.faults[:10])
    assert _all_of(attack) == before


def test_samples_about_anothers_resource_show_nothing_of_it_and_take_nothing_away(site: Site, attack: Attack) -> None:
    asked = sorted(operations(create_app(site)) & set(PROBES) - CHANGING)
    before = _all_of(attack)
    named = {"resource_id": attack.names["resource"], "source": attack.names["source"]}
    metadata = {"display_name": "taken", attack.names["key"]: "taken"}
    for meter in (SHARED["meter"], attack.names["meter"]):
        for minute in (1, 59):  # before and after those of the other project
            sample = {
                "counter_name": meter,
                "counter_type": "gauge",
                "counter_unit": "%",
                "counter_volume": 1.0,
                "timestamp": f"2026-11-20T10:{minute:02}:00",
                "resource_metadata": metadata,
                **named,
            }
            done = attack.send("POST", Probe(f"/v2/meters/{meter}?direct=True", [sample]), MEMBER)
            assert done.status_code == 201, done.text
    judge_hours(site)
    roll_up(site)
    attack.known = {*named.values(), attack.names["key"], attack.names["meter"]}
    for operation in asked:
        attack.look(operation, MEMBER, every=2)
    assert not attack.faults, "\n".join(attack.faults[:10])
    assert _all_of(attack) == before


def _all_of(attack: Attack) -> dict[str, str]:
    """What the other project has, as itself sees it."""
    lists = (
        "meters",
        "samples",
        "resources",
        "events",
        "alarms",
        f"alarms/{attack.names['alarm_id']}/history",
        "quotas",
    )
    who = headers(attack.names)
    found = {path: attack._ask.get(f"/v2/{path}", headers=who) for path in lists}
    return {path: answer.text for path, answer in found.items() if answer.status_code == 200}
