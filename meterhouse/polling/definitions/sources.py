"""Compiles the sources of polling.yaml."""

from collections.abc import Mapping
from typing import Any, Final

from meterhouse.definitions.entries import Faults
from meterhouse.errors import shown
from meterhouse.polling.definitions import filters
from meterhouse.polling.pollster import Source

KEYS: Final = frozenset(
    ("name", "interval", "meters", "resources", "discovery", "shards", "group_id_coordination_expression")
)
"""The keys of a source."""

MAX_INTERVAL: Final = 366 * 86_400
"""Maximum interval in seconds."""

MAX_SHARDS: Final = 1_000
"""Maximum number of tasks among which the resources of a slot are divided."""


def compile_source(entry: Any) -> Source:
    """Compile an entry of `sources`.

    Raises:
        InvalidEntry: it is invalid; with all its faults.
    """
    faults = Faults()
    if not isinstance(entry, dict):
        faults.add((), f"a source is a mapping with name, interval and meters, not {shown(entry)}")
        faults.raise_if_any()
    source = Source(
        name=_name(entry, faults),
        interval=_interval(entry, faults),
        meters=_meters(entry, faults),
        resources=_list(entry, "resources", faults),
        discovery=_list(entry, "discovery", faults),
        shards=_shards(entry, faults),
    )
    faults.raise_if_any()
    return source


def _name(entry: Mapping[str, Any], faults: Faults) -> str:
    name = entry.get("name")
    if name is None:
        faults.add(("name",), "is missing")
    elif isinstance(name, list | dict) or not str(name).strip() or not str(name).isprintable():
        faults.add(("name",), f"{shown(name)} is not a name")
    return str(name)


def _interval(entry: Mapping[str, Any], faults: Faults) -> int:
    value = entry.get("interval")
    if value is None:
        faults.add(("interval",), "is missing")
        return 0
    try:
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise ValueError
        seconds = int(value)
    except (ValueError, OverflowError):
        faults.add(("interval",), f"{shown(value)} is not a number of seconds")
        return 0
    if not 0 < seconds <= MAX_INTERVAL:
        faults.add(("interval",), f"{shown(value)} is not a number of seconds from 1 to {MAX_INTERVAL:,}")
    return seconds


def _meters(entry: Mapping[str, Any], faults: Faults) -> tuple[str, ...]:
    value = entry.get("meters")
    patterns = [value] if isinstance(value, str) else value
    if value is None:
        faults.add(("meters",), "is missing")
    elif not isinstance(patterns, list) or not all(isinstance(each, str) for each in patterns):
        faults.add(("meters",), f"{shown(value)} is not a list of names or patterns")
    else:
        faults.attempt(("meters",), filters.check, patterns)
        return tuple(patterns)
    return ()


def _list(entry: Mapping[str, Any], key: str, faults: Faults) -> tuple[str, ...]:
    value = entry.get(key) or []
    if not isinstance(value, list) or any(not isinstance(each, str | int | float) for each in value):
        faults.add((key,), f"{shown(value)} is not a list of texts")
        return ()
    return tuple(dict.fromkeys(map(str, value)))


def _shards(entry: Mapping[str, Any], faults: Faults) -> int:
    value = entry.get("shards")
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= MAX_SHARDS:
        faults.add(("shards",), f"{shown(value)} is not a number of tasks from 1 to {MAX_SHARDS:,}")
        return 0
    return value
