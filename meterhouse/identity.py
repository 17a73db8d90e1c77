"""Ids of series, samples and metadata snapshots that are the same on every machine.

All are xxh3 hashes (64 bits) of UTF-8 text, as signed 64-bit integers, the form in which Arrow, Delta and SQL store
them. The lake contains them, so the text that is hashed must never change.
"""

from array import array
from collections.abc import Sequence
from typing import Final

from xxhash import xxh3_64_intdigest

_SEPARATOR: Final = "\x1f"
_NONE: Final = "\x00"
_MEMO_LIMIT: Final = 1 << 19
_memo: dict[tuple[str | None, ...], int] = {}


def _signed(digest: int) -> int:
    return digest - (1 << 64) if digest >= 1 << 63 else digest


def _hash(text: str) -> int:
    return _signed(xxh3_64_intdigest(text.encode("utf-8", "surrogatepass")))


def _field(text: str | None) -> str:
    if text is None:
        return _NONE
    if "\x1f" in text or "\x00" in text or "\x1b" in text:
        # Tenants choose some of these texts: without the escape, a tenant could make two series share one id.
        return text.replace("\x1b", "\x1b0").replace(_SEPARATOR, "\x1b1").replace(_NONE, "\x1b2")
    return text


def series_id(
    source: str | None,
    meter: str,
    type: str,
    unit: str | None,
    resource_id: str | None,
    project_id: str | None,
    user_id: str | None,
) -> int:
    """The id of the series with these seven dimensions. A missing dimension (None) differs from an empty one."""
    key = (source, meter, type, unit, resource_id, project_id, user_id)
    known = _memo.get(key)
    if known is None:
        known = _hash(_SEPARATOR.join(map(_field, key)))
        if len(_memo) >= _MEMO_LIMIT:
            _memo.clear()
        _memo[key] = known
    return known


def sample_id(message_id: str, meter: str | None = None, ordinal: int = 0) -> int:
    """The id of a sample.

    Args:
        message_id: the message_id of a polled sample, or, with `meter`, of the notification.
        meter: the meter that a definition made from the notification.
        ordinal: the index, from 0, among the samples of that meter from that notification.
    """
    if meter is None:
        return _hash(message_id)
    return _hash(f"{_field(message_id)}{_SEPARATOR}{_field(meter)}{_SEPARATOR}{ordinal}")


def sample_id_heads(message_ids: Sequence[str]) -> list[bytes]:
    """For `sample_ids`: the start of the hashed text, which all samples of a notification share."""
    return [f"{_field(each)}{_SEPARATOR}".encode() for each in message_ids]


def sample_ids(heads: Sequence[bytes], meter: str) -> "array[int]":
    """`sample_id(message_id, meter)` of many notifications at once, as unsigned 64-bit integers."""
    tail = f"{_field(meter)}{_SEPARATOR}0".encode()
    return array("Q", [xxh3_64_intdigest(head + tail) for head in heads])


def metadata_id(canonical: bytes) -> int:
    """The id of a resource metadata snapshot, from its canonical JSON (keys sorted, no spaces)."""
    return _signed(xxh3_64_intdigest(canonical))
