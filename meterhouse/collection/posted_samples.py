"""Samples that were posted to the API, as notifications: `telemetry.api`, as Ceilometer's API sent them.

What counts once is decided by message_ids, which come from who has posted what:

- A sample that came with its own message_id is a notification by itself. Its id is made of the project and that id.
- The others of a request are one notification. Its id is made of the project and the Idempotency-Key, if there is one.

An id holds the project, so that nobody can hide another project's samples by guessing ids.
"""

import socket
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b
from typing import Any, Final

import orjson

from meterhouse import identity, times
from meterhouse.conversion import signatures
from meterhouse.conversion.sample_columns import POSTED_EVENT
from meterhouse.stream.publishing import enveloped

PRIORITY: Final = "SAMPLE"

_DELTA: Final = "delta"


@dataclass(frozen=True)
class Posted:
    """A posted sample, checked, with its defaults.

    Attributes:
        source, meter, type, unit, resource_id, project_id, user_id: its series.
        volume: a finite number.
        timestamp: UTC, of the years 1970 to 2262.
        metadata: of its resource, nested.
        message_id: that the client has given; None if it has not.
    """

    source: str
    meter: str
    type: str
    unit: str | None
    resource_id: str
    project_id: str | None
    user_id: str | None
    volume: float
    timestamp: datetime
    metadata: Mapping[str, Any]
    message_id: str | None = None


@dataclass(frozen=True)
class Notified:
    """The notifications of a request.

    Attributes:
        messages: as they go into the stream.
        ids: of the samples, in order: by these, they can be asked for.
    """

    messages: list[bytes]
    ids: list[str]


def notifications(samples: Sequence[Posted], project: str, key: str | None, now: datetime, secret: str) -> Notified:
    """The notifications of a request.

    Args:
        samples: that were posted, at least one.
        project: that has posted them; empty if it is none.
        key: the Idempotency-Key; None without one.
        now: the time of the request.
        secret: METERHOUSE_TELEMETRY_SECRET, by which they are signed; empty for none.
    """
    whole_id = _derived("request", project, key) if key is not None else uuid.uuid4().hex
    base = int(whole_id, 16)
    messages: list[bytes] = []
    together: list[dict[str, Any]] = []
    ids: list[str] = []
    for number, sample in enumerate(samples):
        message_id = sample.message_id or _numbered(base, number)
        wire = _wire(sample, message_id, secret)
        if sample.message_id is None:
            together.append(wire)
        else:
            own_id = f"posted:{_derived('own', project, sample.message_id)}"
            messages.append(_message(own_id, [wire], now))
        ids.append(point_id(sample) if sample.type != _DELTA else sample.message_id or delta_id(message_id))
    if together:
        messages.append(_message(f"posted:{whole_id}", together, now))
    return Notified(messages, ids)


def point_id(sample: Posted) -> str:
    """The id of a gauge's or counter's point: its series, and its time in µs."""
    series_id = identity.series_id(
        sample.source,
        sample.meter,
        sample.type,
        sample.unit,
        sample.resource_id,
        sample.project_id,
        sample.user_id,
    )
    return f"{series_id}-{times.micros(sample.timestamp)}"


def delta_id(message_id: str) -> str:
    """The id of a delta, as lists show it."""
    return f"{identity.sample_id(message_id) & (1 << 64) - 1:016x}"


def digest(content: object) -> str:
    """A hash of JSON, whatever the order of keys and the spaces in it are."""
    return blake2b(orjson.dumps(content, option=orjson.OPT_SORT_KEYS), digest_size=16).hexdigest()


def _numbered(base: int, number: int) -> str:
    """An id in the form of a UUID, from the id of the request and the place of the sample in it."""
    digits = f"{(base + number) % (1 << 128):032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def _derived(*parts: str | None) -> str:
    """32 hex digits from texts. Nobody can find texts that give the digits of others."""
    return blake2b(orjson.dumps(parts), digest_size=16, person=b"meterhouse post").hexdigest()


def _wire(sample: Posted, message_id: str, secret: str) -> dict[str, Any]:
    made: dict[str, Any] = {
        "source": sample.source,
        "counter_name": sample.meter,
        "counter_type": sample.type,
        "counter_unit": sample.unit,
        "counter_volume": sample.volume,
        "user_id": sample.user_id,
        "project_id": sample.project_id,
        "resource_id": sample.resource_id,
        "timestamp": _text(sample.timestamp),
        "resource_metadata": dict(sample.metadata),
        "message_id": message_id,
    }
    if secret:
        made[signatures.FIELD] = signatures.signature(made, secret)
    return made


def _message(message_id: str, samples: list[dict[str, Any]], now: datetime) -> bytes:
    return enveloped(
        {
            "message_id": message_id,
            "publisher_id": f"meterhouse-api.{socket.gethostname()}",
            "event_type": POSTED_EVENT,
            "priority": PRIORITY,
            "timestamp": _text(now),
            "payload": {"samples": samples},
        }
    )


def _text(moment: datetime) -> str:
    return moment.replace(tzinfo=None).isoformat(timespec="microseconds")
