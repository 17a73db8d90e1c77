"""Dynamic pollsters in tests: compiled, and polled once."""

import itertools
import json
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from meterhouse.definitions.entries import Faults
from meterhouse.polling.asking import Asking
from meterhouse.polling.kinds.dynamic import compile_poll
from meterhouse.polling.polled import Piece, Polled, Slot
from meterhouse.polling.pollster import Poll, Source
from tests.web import Raw, Request

PLAIN: Mapping[str, Any] = {
    "name": "volume.size",
    "sample_type": "gauge",
    "unit": "GB",
    "endpoint_type": "volumev3",
    "url_path": "volumes",
    "value_attribute": "size",
}


def compiled(**keys: Any) -> Poll:
    """What polls by `PLAIN` with these keys; None leaves one out."""
    faults = Faults()
    made = compile_poll({key: value for key, value in {**PLAIN, **keys}.items() if value is not None}, faults)
    faults.raise_if_any()
    assert made is not None
    return made


def slot(seconds: float = 60) -> Slot:
    """A slot that ends so many seconds from now."""
    now = datetime.now(UTC)
    return Slot("a source", "a pollster", now - timedelta(seconds=1), now + timedelta(seconds=seconds))


def source(*resources: str, discovery: tuple[str, ...] = (), shards: int = 0) -> Source:
    """A source with these resources."""
    return Source("a source", 60, ("*",), resources, discovery, shards)


def polled(asking: Asking, url: str, piece: Piece | None = None, **keys: Any) -> Polled:
    """What one poll of a URL gives."""
    return compiled(**keys).poll(asking, slot(), piece or Piece(), source(url))


def keystone_routes(**services: str) -> dict[str, Any]:
    """A Keystone's answers at `/v3` of a `tests.web` server: a login, and a catalogue of types of services and URLs."""
    catalogue = [
        {"type": kind, "endpoints": [{"interface": "public", "region": "RegionOne", "url": each}]}
        for kind, each in services.items()
    ]
    logins = itertools.count(1)

    def log_in(_: Request) -> Raw:
        answer = json.dumps({"token": {"catalog": catalogue, "methods": ["password"]}}).encode()
        return Raw(201, answer, {"X-Subject-Token": f"token-{next(logins)}"})

    return {"/v3/auth/tokens": log_in}
