"""A site of two projects whose samples and events are known, for tests of what the API answers."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from api_server import client
from builders import drop, notification, polled, polling, process

from meterhouse.settings import read_settings
from meterhouse.site import Site

NINE = datetime(2026, 11, 20, 9, tzinfo=UTC)

ANN = {"X-User-Id": "ann", "X-Project-Id": "shop", "X-Roles": "member"}
BOB = {"X-User-Id": "bob", "X-Project-Id": "bank", "X-Roles": "member,reader"}
ROOT = {"X-User-Id": "root", "X-Project-Id": "admin", "X-Roles": "admin"}


def minutes(number: float) -> datetime:
    """A time after NINE."""
    return NINE + timedelta(minutes=number)


def shown(moment: datetime) -> str:
    """A time as answers have it."""
    return moment.replace(tzinfo=None).isoformat()


METADATA = {
    "web-1": {"name": "web-1", "flavor": {"name": "m1.small", "extra": {"gpu": 0}}, "on": True, "tags": ["a", 1]},
    "web-2": {"name": "web-2", "flavor": {"name": "m1.large"}, "on": False, "ram": 2048, "note": None, "empty": {}},
    "db/1": {"name": "db", "flavor": {"name": "m1.large"}, "on": "True"},
}
OWNER = {"web-1": ("shop", "ann"), "web-2": ("shop", "amy"), "db/1": ("bank", "bob")}


def sample(meter: str, resource: str, volume: float, moment: datetime, kind: str = "gauge", unit: str = "%") -> Any:
    """A polled sample; its message_id is METER-RESOURCE-MINUTE."""
    project, user = OWNER[resource]
    return polled(
        volume,
        moment,
        meter=meter,
        type=kind,
        resource=resource,
        project=project,
        user_id=user,
        counter_unit=unit,
        resource_metadata=METADATA[resource],
        message_id=f"{meter}-{resource}-{(moment - NINE) // timedelta(minutes=1)}",
    )


def samples() -> Iterator[dict[str, Any]]:
    """An hour and a half of three resources, every 10 minutes."""
    for n in range(9):
        for resource, base in (("web-1", 10), ("web-2", 20), ("db/1", 30)):
            yield sample("cpu_util", resource, base + n, minutes(10 * n))
        yield sample("cpu", "web-1", 600 * n if n < 6 else 600 * (n - 6), minutes(10 * n), "cumulative", "ns")
        yield sample("requests", "web-2", n, minutes(10 * n), "delta", "request")
    yield sample("cpu_util", "web-1", -5, minutes(85))
    yield sample("memory", "web-1", 512, minutes(0), unit="MB")
    yield sample("memory", "web-1", 1024, minutes(10), unit="MiB")


def events() -> Iterator[dict[str, Any]]:
    """Events of both projects, and one of none."""
    for n, (resource, project, user) in enumerate(
        (("web-1", "shop", "ann"), ("web-2", "shop", "amy"), ("db/1", "bank", "bob"))
    ):
        payload = {"instance_id": resource, "tenant_id": project, "user_id": user, "vcpus": n + 1, "state": "active"}
        moment = {"timestamp": str(minutes(10 * n).replace(tzinfo=None)), "_context_project_id": project}
        yield notification(f"event-{n}", "compute.instance.create.end", payload=payload, **moment)
    payload = {"resource_info": "u9", "initiator": {"id": "x"}}
    yield notification("event-3", "identity.user.created", payload=payload, timestamp="2026-11-20 10:00:00")


def fill(site: Site) -> None:
    """Collect and compute it all."""
    drop(site.settings.spool, "all.jsonl", [*events(), polling("batch", list(samples()))])
    process(site)


@contextmanager
def asked(folder: Path, **overrides: Any) -> Iterator[tuple[Site, httpx.Client]]:
    """The site in a folder, and a client of its API, without headers: the operator."""
    site = Site.open(read_settings(home=folder, api_max_limit=1_000, **overrides))
    site.settings.spool.mkdir(parents=True, exist_ok=True)
    with pytest.MonkeyPatch.context() as patch:
        nothing = Path(__file__).parent / "data/nothing_derived.yaml"
        patch.setattr("meterhouse.definitions.derived_meters.SHIPPED", nothing)
        fill(site)
        with client(site) as ask:
            yield site, ask
    site.warehouse.engine.dispose()
