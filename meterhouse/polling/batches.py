"""Batches: the samples of a task as one `telemetry.polling` notification, as Ceilometer's polling agents send them.

The notification is that of `ceilometer/polling/manager.py` (event type, priority, `{"samples": [...]}`), and a sample
that of `ceilometer/publisher/utils.py: meter_message_from_counter`. Beside the samples it has the slot that they were
polled for, and what came of it: so whoever finds the message in the lake knows the outcome.

The ids are made from the task: the same task has the same message_id whoever polls it, and is landed once.
"""

import hmac
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

import msgspec
from xxhash import xxh3_128_hexdigest

from meterhouse.conversion.signatures import FIELD, canonical
from meterhouse.polling.polled import WireSample
from meterhouse.stream.envelope import clean
from meterhouse.stream.publishing import enveloped

EVENT_TYPE: Final = "telemetry.polling"

_OWN_FIELDS: Final = frozenset(
    (
        "counter_name",
        "counter_type",
        "counter_unit",
        "counter_volume",
        "message_id",
        "project_id",
        "resource_id",
        "resource_metadata",
        "source",
        "timestamp",
        "user_id",
    )
)
"""The fields of a sample that `_signed` knows, in the order in which they are signed."""


class SlotNote(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a batch says of the task that it was polled for; `payload.slot` of the notification.

    Attributes:
        source, pollster, host: of the slot; `host` is empty if any member can poll it.
        start, end: of the slot, UTC.
        shard: of the task.
        member: who polled it.
        generation: of the claim.
        polled_at: when the poll had ended, UTC.
        seconds: how long it took.
        resources: number of resources that were polled.
        samples: number of samples.
        rests: what was left to do, as the record keeps it: `piece` and `error`.
        warning: what is wrong with entries that were polled, such as that some gave no sample; empty: nothing.
        missed: why nothing was polled: the batch is empty, and keeps a member that was paused from landing one later.
    """

    source: str
    pollster: str
    start: datetime
    end: datetime
    shard: str
    member: str
    generation: int
    polled_at: datetime
    host: str = ""
    seconds: float = 0.0
    resources: int = 0
    samples: int = 0
    rests: list[dict[str, Any]] = []
    warning: str = ""
    missed: str = ""


class _Payload(msgspec.Struct):
    slot: SlotNote | None = None


class _Message(msgspec.Struct):
    payload: _Payload


_decode: Final[Callable[[str], _Message]] = msgspec.json.Decoder(_Message).decode


def batch(message_id: str, samples: Sequence[WireSample], slot: SlotNote, secret: str) -> bytes:
    """The notification of a task in the envelope of oslo.messaging.

    Args:
        message_id: of the task.
        samples: in their order, from which their ids are made; they get `message_id` and, with a secret,
            `message_signature`.
        slot: the task, and what came of it.
        secret: METERHOUSE_TELEMETRY_SECRET; empty: the samples are not signed.
    """
    prefix = xxh3_128_hexdigest(message_id.encode())
    for at, sample in enumerate(samples):
        sample["message_id"] = f"{prefix}-{at}"
    try:
        return _encoded(message_id, samples, slot, secret)
    except (TypeError, ValueError, RecursionError):  # values that JSON or UTF-8 cannot hold
        return _encoded(message_id, [_plain(sample) for sample in samples], slot, secret)


def slot_of(body: str) -> SlotNote | None:
    """What a notification says of the task that it was polled for; None if it says nothing.

    Args:
        body: the message without its envelope, as the lake has it.
    """
    try:
        return _decode(body).payload.slot
    except (msgspec.DecodeError, ValueError):
        return None


def _encoded(message_id: str, samples: Sequence[WireSample], slot: SlotNote, secret: str) -> bytes:
    if secret:
        _sign(samples, secret.encode())
    message: dict[str, object] = {
        "message_id": message_id,
        "publisher_id": f"meterhouse.poll.{slot.member}",
        "event_type": EVENT_TYPE,
        "priority": "SAMPLE",
        "timestamp": slot.polled_at.replace(tzinfo=None).isoformat(sep=" "),
        "payload": {"slot": msgspec.to_builtins(slot), "samples": samples},
    }
    return enveloped(message)


def _sign(samples: Sequence[WireSample], secret: bytes) -> None:
    """Sign samples; the meters of one resource often share its metadata, whose text is then made once."""
    metadata: object = None
    text = ""
    for sample in samples:
        if (own := sample.get("resource_metadata")) is not metadata or not isinstance(own, dict):
            metadata = own
            text = canonical({"resource_metadata": own})
        signed = _signed(sample, text) if sample.keys() - {FIELD} == _OWN_FIELDS else canonical(sample)
        sample[FIELD] = hmac.digest(secret, signed.encode(), "sha256").hex()


def _signed(sample: Mapping[str, Any], metadata: str) -> str:
    """The text of an ordinary sample that is signed: see `canonical`, which gives the same more slowly."""
    return (
        f"counter_name{sample['counter_name']}counter_type{sample['counter_type']}"
        f"counter_unit{sample['counter_unit']}counter_volume{sample['counter_volume']}"
        f"message_id{sample['message_id']}project_id{sample['project_id']}resource_id{sample['resource_id']}"
        f"{metadata}source{sample['source']}timestamp{sample['timestamp']}user_id{sample['user_id']}"
    )


def _plain(value: Any) -> Any:
    """A value as JSON can hold it: texts without lone surrogates, integers of at most 64 bits, keys as text."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, Mapping):
        return {clean(str(name)): _plain(each) for name, each in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(each) for each in value]
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        return float(value)
    if value is None or isinstance(value, (bool, int, float)):
        return value
    return clean(str(value))
