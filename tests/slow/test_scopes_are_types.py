"""An endpoint that forgets whose data may be seen does not type-check."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]

SNIPPETS = """\
from typing import Annotated, Any

from fastapi import Response

from meterhouse.alarms.keeping import managed
from meterhouse.alarms.keeping.listing import Page, alarms_of
from meterhouse.api.answers.json_text import answer
from meterhouse.api.asked import Asked, allowed
from meterhouse.queries.events import events
from meterhouse.queries.meters import meter_list
from meterhouse.queries.resources import resource_list
from meterhouse.queries.samples import samples
from meterhouse.queries.statistics import Question, statistics

ByRule = Annotated[Asked, allowed("telemetry:get_meters")]


async def meters(asked: ByRule) -> Response:
    return answer(await asked.run(lambda: meter_list(asked.site, asked.identity.scope)))


async def all_meters(asked: ByRule) -> Response:
    return answer(await asked.run(lambda: meter_list(asked.site)))  # refused


async def meters_of_a_text(asked: ByRule) -> Response:
    return answer(await asked.run(lambda: meter_list(asked.site, asked.identity.project_id)))  # refused


async def meters_of_events(asked: ByRule) -> Response:
    return answer(await asked.run(lambda: meter_list(asked.site, asked.identity.event_scope)))  # refused


def lists(asked: Asked, page: Page) -> list[Any]:
    site, identity = asked.site, asked.identity
    return [
        samples(site, identity.scope, "cpu"),
        samples(site, meter="cpu"),  # refused
        statistics(site, identity.scope, "cpu"),
        statistics(site, "cpu"),  # refused
        Question(identity.scope, "cpu"),
        Question(meter="cpu"),  # refused
        resource_list(site, identity.scope),
        resource_list(site),  # refused
        events(site, identity.event_scope),
        events(site),  # refused
        events(site, identity.scope),  # refused
        alarms_of(site, identity.caller, page),
        alarms_of(site, page=page),  # refused
        managed.create(site, {}, identity.caller),
        managed.create(site, {}),  # refused
        managed.remove(site, "a", identity.caller),
        managed.remove(site, "a"),  # refused
        managed.remove(site, "a", identity),  # refused
    ]
"""


def test_mypy_refuses_a_query_without_a_scope_and_takes_it_with_one(tmp_path: Path) -> None:
    file = tmp_path / "snippets.py"
    file.write_text(SNIPPETS)
    command = [sys.executable, "-m", "mypy", "--config-file", "pyproject.toml", "--no-error-summary", str(file)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    refused = {int(number) for number in re.findall(r"snippets\.py:(\d+): error:", done.stdout)}
    wanted = {n for n, line in enumerate(SNIPPETS.splitlines(), 1) if line.endswith("# refused")}
    assert len(wanted) == 13
    assert refused == wanted, done.stdout + done.stderr
