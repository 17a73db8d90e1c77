"""Dynamic pollsters in tests: compiled, and polled once."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from meterhouse.definitions.entries import Faults
from meterhouse.polling.asking import Asking
from meterhouse.polling.kinds.dynamic import compile
from meterhouse.polling.polled import Piece, Polled, Slot
from meterhouse.polling.pollster import Poll, Source

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
    made = compile({key: value for key, value in {**PLAIN, **keys}.items() if value is not None}, faults)
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
