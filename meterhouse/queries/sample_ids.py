"""Ids of samples: how they are shown, and which samples are meant by one.

A gauge's or counter's sample is `SERIES-MICROSECONDS`: the id of its series and its time since 1970. A delta's is its
`sample_id`, 16 hexadecimal digits. Clients may also ask by the message_id that a sample came with, or that of the
notification from which a delta was made: `sample_id` is a hash of it, see `identity.sample_id`. Compacted files keep it
of deltas only.
"""

import re
from collections.abc import Iterable, Sequence
from typing import Final

from sqlalchemy import select

from meterhouse import identity
from meterhouse.errors import UsageError
from meterhouse.filters import And, Condition, Field, Fields, Filter, Leaf, Not, OneOf, Or
from meterhouse.filters.conditions import leaves_of
from meterhouse.site import Site
from meterhouse.stores.lake_faults import retried
from meterhouse.stores.warehouse_tables import series
from meterhouse.times import Span

MESSAGE_ID: Final = "message_id"
"""The column of fields by which clients ask for ids."""

POINT_KEY, SAMPLE_KEY = "point_key", "sample_key"
"""Columns of what is asked for in its place: `SERIES-MICROSECONDS`; the sample_id, if it has one."""

_KEYS: Final[Fields] = {POINT_KEY: Field(POINT_KEY), SAMPLE_KEY: Field(SAMPLE_KEY)}

MAX_IDS: Final = 100
"""Maximum number of message ids in a query."""

ORDINALS: Final = 32
"""How many samples of one meter may come from one notification to be found by its message_id."""

_POINT: Final = re.compile(r"(-?[0-9]{1,19})-(-?[0-9]{1,17})", re.ASCII)
_SAMPLE: Final = re.compile(r"[0-9a-f]{16}", re.ASCII)


def point_of(text: str) -> tuple[int, int] | None:
    """The series and the time, µs since 1970, of `SERIES-MICROSECONDS`; None if the text is something else."""
    found = _POINT.fullmatch(text)
    if found is None or not -(1 << 63) <= int(found[1]) < 1 << 63:
        return None
    return int(found[1]), int(found[2])


def sample_key(sample_id: int) -> str:
    """A sample_id as it is shown."""
    return f"{sample_id & 0xFFFFFFFFFFFFFFFF:016x}"


def asks_for_ids(condition: Condition) -> bool:
    """Whether a condition asks for message ids."""
    return any(leaf.target.column == MESSAGE_ID for leaf in leaves_of(condition))


def by_keys(site: Site, condition: Condition, span: Span) -> Condition:
    """A condition that asks for keys in place of message ids.

    Args:
        site: the site.
        condition: that asks for message ids.
        span: of event time, in which samples are looked for.

    Raises:
        UsageError: an id is not found, and may be of a sample whose id is not kept; or there are too many, or they are
            compared otherwise than with =, != and in.
    """
    texts = {text for leaf in leaves_of(condition) if leaf.target.column == MESSAGE_ID for text in _texts(leaf)}
    if len(texts) > MAX_IDS:
        raise UsageError(f"the query names {len(texts)} message ids", hint=f"Name at most {MAX_IDS}")
    found = _found(site, sorted(texts), span)
    return _replaced(condition, found)


Keys = tuple[str, str | None]
"""A point_key; and the sample_key, if the point is a delta."""


def _replaced(condition: Condition, found: dict[str, list[Keys]]) -> Condition:
    match condition:
        case And(parts):
            return And(tuple(_replaced(part, found) for part in parts))
        case Or(parts):
            return Or(tuple(_replaced(part, found) for part in parts))
        case Not(part):
            return Not(_replaced(part, found))
    if condition.target.column != MESSAGE_ID:
        return condition
    keys = [key for text in _texts(condition) for key in found[text]]
    points = tuple(dict.fromkeys(point for point, sample in keys if sample is None))
    deltas = [(point, sample) for point, sample in keys if sample is not None]
    meant: list[Condition] = [OneOf(POINT_KEY, points, _KEYS)] if points else []
    if deltas:
        of_points = OneOf(POINT_KEY, tuple(dict.fromkeys(point for point, _ in deltas)), _KEYS)
        of_samples = OneOf(SAMPLE_KEY, tuple(dict.fromkeys(sample for _, sample in deltas)), _KEYS)
        meant.append(And((of_points, of_samples)))
    is_one = meant[0] if len(meant) == 1 else Or(tuple(meant))
    return Not(is_one) if isinstance(condition, Filter) and condition.op == "ne" else is_one


def _texts(leaf: Leaf) -> Sequence[str]:
    match leaf:
        case Filter(op="eq" | "ne", value=value):
            return (value,)
        case OneOf(among=among):
            return among
    raise UsageError("message ids have no order and no parts", where=MESSAGE_ID, hint="Compare them with =, != or in")


def _found(site: Site, texts: Iterable[str], span: Span) -> dict[str, list[Keys]]:
    """The keys that are meant by each id."""
    keys: dict[str, list[Keys]] = {text: [] for text in texts}
    by_hash: dict[int, str] = {}
    for text in keys:
        if point_of(text) is not None:
            keys[text].append((text, None))
        else:
            by_hash.update(dict.fromkeys(_hashes(site, text), text))
    if not by_hash:
        return keys
    rows, complete = _with_hashes(site, by_hash, span)
    for series_id, micros, sample_id, is_delta in rows:
        key = f"{series_id}-{micros}"
        keys[by_hash[sample_id]].append((key, sample_key(sample_id) if is_delta else None))
    lacking = [text for text, some in keys.items() if not some]
    if lacking and not complete:
        raise UsageError(
            f"no sample with the message_id '{lacking[0][:100]}' is found, and compacted files keep none of gauges and "
            "counters",
            hint="Ask by the id that /v2/samples shows, SERIES-MICROSECONDS, or by resource_id, meter and timestamp",
        )
    return keys


def _hashes(site: Site, text: str) -> Iterable[int]:
    """The sample ids of the samples that may be meant by an id."""
    found = {identity.sample_id(text)}
    if _SAMPLE.fullmatch(text):
        number = int(text, 16)
        found.add(number - (1 << 64) if number >= 1 << 63 else number)
    deltas = select(series.c.meter).where(series.c.type == "delta").distinct()
    with site.warehouse.read() as connection:
        meters = connection.execute(deltas).scalars().all()
    found.update(identity.sample_id(text, meter, ordinal) for meter in meters for ordinal in range(ORDINALS))
    return found


@retried
def _with_hashes(site: Site, hashes: Iterable[int], span: Span) -> tuple[list[tuple[int, int, int, bool]], bool]:
    """The samples with these sample ids, and whether all samples of the span have one.

    Each is its series, its time (µs since 1970), its sample_id, and whether it is a delta.
    """
    lake = site.lake
    files = lake.files("samples", overlapping=("timestamp", [span]))
    with lake.connect() as duck:
        lake.view(duck, "samples", files)
        rows = duck.execute(
            "SELECT DISTINCT series_id, epoch_us(timestamp), sample_id, type = 'delta' FROM samples "
            "WHERE sample_id IN (SELECT unnest(?))",
            [sorted(hashes)],
        ).fetchall()
        if rows:
            return rows, True
        return rows, duck.execute("SELECT 1 FROM samples WHERE sample_id IS NULL LIMIT 1").fetchone() is None
