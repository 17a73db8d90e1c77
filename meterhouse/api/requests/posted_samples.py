"""The samples of `POST /v2/meters/{name}`: a list in the form that Ceilometer calls OldSample, checked.

Source: Ceilometer 6.0.0, `ceilometer/api/controllers/v2/meters.py`. Of its rules, those stay that keep projects apart
and data whole. What would be lost later, such as a volume that is no number, is refused here.
"""

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from meterhouse import times
from meterhouse.api.access.identity import Identity
from meterhouse.api.answers.faults import Fault, invalid
from meterhouse.collection.posted_samples import Posted
from meterhouse.definitions.quality_rules import TYPES
from meterhouse.timestamps import LATEST, parse_exact

MAX_SAMPLES: Final = 10_000
"""Maximum number of samples of a request."""

MAX_TEXT: Final = 255
"""Maximum length of names and ids, in characters, as in Ceilometer's database."""

MAX_VALUE: Final = 65_535
"""Maximum length of a value of metadata, in characters."""

MAX_KEYS: Final = 1_000
"""Maximum number of keys of a sample's metadata."""

MAX_LEVELS: Final = 20
"""Maximum number of parts of a key of metadata, separated by dots."""

FIELDS: Final[Mapping[str, str]] = {
    "counter_name": "The meter: the one of the URL.",
    "counter_type": "`gauge`, `delta` or `cumulative`.",
    "counter_unit": "The unit; null for none.",
    "counter_volume": "The volume, a finite number.",
    "resource_id": "The resource.",
    "user_id": "The user; default the caller.",
    "project_id": "The project; default the caller's. Only an administrator may name another.",
    "source": "Where it comes from; default `openstack`. The project is put before it.",
    "timestamp": "When it was measured, ISO 8601; without a zone in UTC; default now.",
    "recorded_at": "Not used: when it is taken.",
    "resource_metadata": "Names and values about the resource. Values are texts. Dots in names are levels.",
    "message_id": "An id. A repeat with the same id counts once.",
}
"""What a sample may have, and what each means."""

REQUIRED: Final = ("counter_name", "counter_type", "counter_unit", "counter_volume", "resource_id")

_DEFAULT_SOURCE: Final = "openstack"


@dataclass(frozen=True)
class Checked:
    """The samples of a request, as they are stored, and as they came.

    Attributes:
        samples: with their defaults.
        metadata: of each, as it came.
    """

    samples: Sequence[Posted]
    metadata: Sequence[Mapping[str, str | None]]


def checked(body: Any, meter: str, identity: Identity, now: datetime) -> Checked:
    """The samples of a body.

    Args:
        body: as a parser of JSON has read it; None if there is none.
        meter: of the URL.
        identity: who posts them.
        now: the time of samples that have none.

    Raises:
        Fault: one cannot be taken; says which, what is wrong, and what to do: status 400.
    """
    if body is None or body == []:
        raise Fault(400, "Samples should be included in request body. Write a list of at least one sample")
    if not isinstance(body, list):
        raise invalid("samples", body, "Write a list of samples")
    if len(body) > MAX_SAMPLES:
        raise Fault(400, f"The request has {len(body):,} samples. Post at most {MAX_SAMPLES:,} at a time")
    reader = _Reader(meter, identity, now)
    found = []
    for number, item in enumerate(body):
        try:
            found.append(reader.sample(item))
        except Fault as fault:
            if len(body) > 1:
                raise Fault(fault.status, f"{fault.text}. Nothing was stored; it is sample {number + 1}") from None
            raise
    samples, metadata = zip(*found, strict=True)
    return Checked(samples, metadata)


class _Reader:
    def __init__(self, meter: str, identity: Identity, now: datetime) -> None:
        self._meter, self._identity, self._now = meter, identity, now
        self._nested: dict[tuple[tuple[str, str | None], ...], dict[str, Any]] = {}

    def sample(self, item: Any) -> tuple[Posted, Mapping[str, str | None]]:
        if not isinstance(item, dict):
            raise invalid("samples", item, "Write each sample as an object")
        for name in item:
            if name not in FIELDS:
                raise Fault(400, f"Unknown attribute: {name[:MAX_TEXT]}. A sample has {', '.join(FIELDS)}")
        for name in REQUIRED:
            if name not in item or (item[name] is None and name != "counter_unit"):
                raise invalid(name, None, "Mandatory field missing. Give each sample this field")
        if item["counter_name"] != self._meter:
            raise invalid("counter_name", item["counter_name"], f"should be {self._meter}, as in the URL")
        if item["counter_type"] not in TYPES:
            raise invalid("counter_type", item["counter_type"], f"should be one of {', '.join(TYPES)}")
        project = self._project(_text(item, "project_id"))
        source = _text(item, "source") or _DEFAULT_SOURCE
        source = f"{project}:{source}" if project else source
        if item.get("recorded_at") is not None:
            _moment("recorded_at", item["recorded_at"])
        timestamp = item.get("timestamp")
        metadata = item.get("resource_metadata")
        metadata = {} if metadata is None else metadata
        posted = Posted(
            source=source,
            meter=_required(item, "counter_name"),
            type=item["counter_type"],
            unit=_text(item, "counter_unit"),
            resource_id=_required(item, "resource_id"),
            project_id=project,
            user_id=_text(item, "user_id") or self._identity.user_id or None,
            volume=_volume(item["counter_volume"]),
            timestamp=self._now if timestamp is None else _moment("timestamp", timestamp),
            metadata=self._metadata(metadata),
            message_id=_text(item, "message_id") or None,
        )
        return posted, metadata

    def _project(self, given: str | None) -> str | None:
        own = self._identity.project_id
        if not self._identity.is_admin and (not own or (given and given != own)):
            text = "You can not post samples to other projects. Leave it out, or post as an administrator"
            raise invalid("project_id", given or "", text)
        return given or own or None

    def _metadata(self, given: Any) -> dict[str, Any]:
        """Metadata with a level for each dot of a key."""
        if not isinstance(given, dict):
            raise invalid("resource_metadata", given, "Write an object of names and texts")
        if len(given) > MAX_KEYS:
            raise invalid("resource_metadata", given, f"Give at most {MAX_KEYS:,} names")
        for name, value in given.items():
            _check(f"resource_metadata.{name}", name, MAX_TEXT)
            if value is not None and not isinstance(value, str):
                place = f"resource_metadata.{name}"
                raise invalid(place, value, "Values are texts: write it in quotation marks")
            _check(f"resource_metadata.{name}", value or "", MAX_VALUE)
        key = tuple(given.items())
        found = self._nested.get(key)
        if found is None:
            found = self._nested[key] = _nested(given)
        return found


def _nested(given: Mapping[str, str | None]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for name, value in given.items():
        *levels, last = name.split(".")
        if len(levels) >= MAX_LEVELS:
            raise invalid(f"resource_metadata.{name}", value, f"Use at most {MAX_LEVELS} levels")
        inner = made
        for level in levels:
            inner = inner.setdefault(level, {})
            if not isinstance(inner, dict):
                break
        if not isinstance(inner, dict) or last in inner:
            raise invalid(f"resource_metadata.{name}", value, "Another name is the start of this one. Rename one")
        inner[last] = value
    return made


def _required(item: Mapping[str, Any], name: str) -> str:
    found = _text(item, name)
    if not found:
        raise invalid(name, found, "It is empty. Write a text")
    return found


def _text(item: Mapping[str, Any], name: str) -> str | None:
    value = item.get(name)
    if value is None:
        return None
    if not isinstance(value, str):
        raise invalid(name, value, "Wrong type. Write a text in quotation marks")
    _check(name, value, MAX_TEXT)
    return value


def _check(name: str, value: str, longest: int) -> None:
    if len(value) > longest:
        raise invalid(name, value, f"It has {len(value):,} characters. Use at most {longest:,}")
    if "\0" in value:
        raise invalid(name, value.replace("\0", "\\0"), "It has a NUL character, which no store holds. Remove it")


def _volume(value: Any) -> float:
    number = math.nan
    if isinstance(value, int | float | str) and not isinstance(value, bool) and "_" not in str(value)[:1_000]:
        with suppress(ValueError, OverflowError):
            number = float(value)
    if not math.isfinite(number):
        raise invalid("counter_volume", value, "Write a finite number, such as 1.5")
    return number


def _moment(name: str, value: Any) -> datetime:
    try:
        micros = parse_exact(value)
    except (ValueError, OverflowError):
        raise invalid(name, value, "Write a time in ISO 8601, such as 2026-11-20T10:00:00") from None
    if not 0 <= micros <= LATEST:
        raise invalid(name, value, "Use a time of the years 1970 to 2262")
    return times.EPOCH + timedelta(microseconds=micros)
