"""Slots that were missed are made up, if the service that is polled keeps its past."""

import json
import threading
from collections.abc import Iterator
from datetime import datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml
from builders import rows
from conftest import OpenSite
from sqlalchemy import select, update

from meterhouse import times
from meterhouse.collection.intake import intake
from meterhouse.polling.bounded import poll_for
from meterhouse.site import Site
from meterhouse.stores.warehouse_tables import poll_schedules, poll_tasks

INTERVAL = timedelta(seconds=600)
AWAY = 5
"""Number of slots in which no member ran."""


class Usage(BaseHTTPRequestHandler):
    """Answers as Nova's usage API ("List Tenant Usage Statistics For All Tenants"): for the span that is asked for."""

    def do_GET(self) -> None:
        query = parse_qs(urlsplit(self.path).query)
        start, stop = query["start"][0], query["end"][0]
        usage = {"tenant_id": "shop", "total_vcpus_usage": 1.5, "start": start, "stop": stop}
        body = json.dumps({"tenant_usages": [usage]}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing."""


@pytest.fixture
def usage_url() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Usage) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def pollster(name: str, **more: Any) -> dict[str, Any]:
    path = "'os-simple-tenant-usage?start=' + previous_slot_start + '&end=' + slot_start"
    fields = {"name": name, "sample_type": "delta", "unit": "h", "endpoint_type": "compute", "url_path": path}
    fields |= {"response_entries_key": "tenant_usages", "value_attribute": "total_vcpus_usage"}
    fields |= {"resource_id_attribute": "tenant_id", "project_id_attribute": "tenant_id"}
    return {**fields, "timestamp_attribute": "stop", **more}


def states(site: Site, name: str) -> dict[str, int]:
    """The slots of a pollster by their state."""
    c = poll_tasks.c
    with site.warehouse.read() as connection:
        found = connection.execute(select(c.state, c.slots).where(c.pollster == name)).all()
    return {state: sum(slots for each, slots in found if each == state) for state in {each for each, _ in found}}


def test_slots_in_which_no_member_ran_are_polled_later_each_once_with_samples_of_its_own_time(
    tmp_path: Path, open_site: OpenSite, usage_url: str
) -> None:
    (tmp_path / "pollsters.d").mkdir()
    polled = [pollster("usage.kept", history_seconds=86_400), pollster("usage.not.kept")]
    (tmp_path / "pollsters.d" / "usage.yaml").write_text(yaml.safe_dump(polled))
    source = {"name": "nova", "interval": INTERVAL.seconds, "meters": ["usage.*"], "resources": [usage_url]}
    (tmp_path / "polling.yaml").write_text(yaml.safe_dump({"sources": [source]}))
    site = open_site(config_dir=tmp_path)
    poll_for(site, 20)
    with site.warehouse.begin() as connection:  # as if members had ended this many slots ago
        connection.execute(poll_tasks.delete())
        began = poll_schedules.c.next_slot_at
        first = connection.execute(select(began)).scalars().first()
        assert isinstance(first, datetime)
        connection.execute(update(poll_schedules).values(next_slot_at=first - INTERVAL * (AWAY + 1)))
    poll_for(site, 20)
    assert states(site, "usage.kept").get("missed", 0) == 0
    assert states(site, "usage.kept")["done"] in (AWAY, AWAY + 1)  # the present one is polled if enough of it is left
    assert states(site, "usage.not.kept")["missed"] == AWAY
    intake(site)
    ends = sorted(
        {row["timestamp"] for row in rows(site, "samples", "timestamp, meter") if row["meter"] == "usage.kept"}
    )
    assert len(ends) == states(site, "usage.kept")["done"]
    assert {end - start for start, end in pairwise(ends)} == {INTERVAL}
    assert max(ends) > times.now() - 2 * INTERVAL
