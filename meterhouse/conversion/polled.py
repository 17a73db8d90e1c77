"""Batches of polled samples: what polling agents send as `telemetry.polling`, and its older forms.

They need no definition: each sample has its own meter, type and unit. Most of a batch is metadata that was also in the
batch before, so its JSON is only looked up, not parsed.
"""

from array import array
from typing import Any, Final, cast

import msgspec
from msgspec.structs import astuple
from xxhash import xxh3_64_intdigest

from meterhouse import identity
from meterhouse.conversion.sample_columns import POSTED_EVENT, SampleColumns, Staged, Unusable, in_range, number
from meterhouse.definitions.expressions import Message
from meterhouse.timestamps import parse_datetime

EVENT_TYPES: Final = ("telemetry.polling", POSTED_EVENT)


class _Sample(msgspec.Struct, gc=False):
    # The order is that of `DIMENSIONS`, then that in which `add_ordinary` unpacks them.
    source: Any = None
    counter_name: Any = None
    counter_type: Any = None
    counter_unit: Any = None
    resource_id: Any = None
    project_id: Any = None
    user_id: Any = None
    counter_volume: Any = None
    timestamp: Any = None
    message_id: Any = None
    resource_metadata: msgspec.Raw = msgspec.Raw(b"null")


class _Payload(msgspec.Struct):
    samples: list[_Sample]


class _Batch(msgspec.Struct):
    payload: _Payload


_DECODE: Final = msgspec.json.Decoder(_Batch).decode


def add_ordinary(body: Any, row: int, samples: SampleColumns) -> bool:
    """Add the samples of a `telemetry.polling` message: all of them, or none if anything is unusual.

    Args:
        body: the JSON text of the message, UTF-8.
        row: the row of the message in the table of notifications.
        samples: the columns to add them to.

    Returns:
        Whether they were added.
    """
    try:
        batch = _DECODE(body).payload.samples
        if not batch:
            return True
        *dimensions, volumes, texts, message_ids, snapshots = zip(*map(astuple, batch), strict=True)
        if "" in message_ids:
            return False
        ids = array("Q", map(xxh3_64_intdigest, map(str.encode, message_ids)))
        moments = array("q", samples.times_of(texts))
        codes = samples.codes_of(zip(*dimensions, strict=True))
        if None in codes:
            codes = [
                samples.code(_dimensions(*key)) if code is None else code
                for key, code in zip(zip(*dimensions, strict=True), codes, strict=True)
            ]
        staged = Staged(
            array("i", [row]) * len(batch),
            array("i", cast(list[int], codes)),
            moments,
            array("d", volumes),
            ids,
            samples.snapshots_of(snapshots),
        )
    except Exception:  # the message is then read sample by sample, which finds out what is wrong with each
        return False
    samples.add(staged)
    return True


def batch_of(message: Message) -> list[Any] | None:
    """The samples of a batch of polled samples, None if the message is another kind of notification.

    Polling agents send `telemetry.polling` with `{"samples": [...]}`. The old API sends `telemetry.api`, and the
    `notifier://` publisher a bare list, both with the priority `sample`.

    Raises:
        ValueError: the message is `telemetry.polling`, but has no list of samples.
    """
    payload = message.get("payload")
    event_type = message.get("event_type")
    priority = message.get("priority")
    if event_type != "telemetry.polling" and not (isinstance(priority, str) and priority.lower() == "sample"):
        return None
    if isinstance(payload, dict) and event_type in EVENT_TYPES:
        payload = payload.get("samples")
    if isinstance(payload, list) and (
        event_type in EVENT_TYPES or (bool(payload) and isinstance(payload[0], dict) and "counter_name" in payload[0])
    ):
        return payload
    if event_type == "telemetry.polling":
        raise ValueError("the batch of polled samples has no list of samples")
    return None


def add_one(sample: Any, row: int, message_id: str, ordinal: int, samples: SampleColumns) -> None:
    """Add one polled sample.

    Args:
        sample: the sample, as it came.
        row: the row of its message in the table of notifications.
        message_id: the id of its message, from which the id of a sample without its own is made.
        ordinal: its index in the message.
        samples: the columns to add it to.

    Raises:
        Exception: it cannot be used; nothing was added.
    """
    if not isinstance(sample, dict):
        raise Unusable("is not a JSON object")
    code = samples.code(_dimensions_of(sample))
    volume = number(sample.get("counter_volume"))
    moment = in_range(samples.time(sample.get("timestamp")))
    metadata_id = samples.metadata_id(sample.get("resource_metadata"))
    own_id = sample.get("message_id")
    sample_id = (
        identity.sample_id(str(own_id))
        if own_id
        else identity.sample_id(message_id, str(sample["counter_name"]), ordinal)
    )
    samples.add_one(row, code, moment, volume, sample_id, metadata_id)


def shown(sample: Any, warn: list[str]) -> dict[str, Any]:
    """A polled sample, for people and for comparison. If it would not be kept, the reason is appended to `warn`."""
    fields = sample if isinstance(sample, dict) else {}
    published = True
    moment = fields.get("timestamp")
    columns = SampleColumns()
    try:
        add_one(sample, 0, "", 0, columns)
        moment = parse_datetime(moment).isoformat()
    except Exception as error:
        published = False
        warn.append(dropped(sample, error))
    return {
        "name": fields.get("counter_name"),
        "type": fields.get("counter_type"),
        "unit": fields.get("counter_unit"),
        "volume": fields.get("counter_volume"),
        "resource_id": fields.get("resource_id"),
        "project_id": fields.get("project_id"),
        "user_id": fields.get("user_id"),
        "timestamp": moment,
        "source": fields.get("source") or "openstack",
        "metadata": fields.get("resource_metadata"),
        "published": published,
        "endpoint": "polling",
    }


def dropped(sample: Any, error: Exception) -> str:
    """The message about a polled sample that is left out, in one line."""
    name, resource = (sample.get("counter_name"), sample.get("resource_id")) if isinstance(sample, dict) else ("?", "?")
    reason = str(error) if isinstance(error, Unusable) else f"cannot be used ({type(error).__name__}: {error})"
    return f"polled sample {name!s:.100} of {resource!s:.100} {reason}, the sample is dropped"


def _dimensions(source: Any, *others: Any) -> tuple[Any, ...]:
    return (source or "openstack", *others)


def _dimensions_of(sample: dict[str, Any]) -> tuple[Any, ...]:
    return _dimensions(
        sample.get("source"),
        sample.get("counter_name"),
        sample.get("counter_type"),
        sample.get("counter_unit"),
        sample.get("resource_id"),
        sample.get("project_id"),
        sample.get("user_id"),
    )
