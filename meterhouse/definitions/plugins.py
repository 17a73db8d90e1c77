"""The plugins of definition files: split, bitfield, timedelta and map.

A plugin gets the matches of its definition's fields, in order, and returns values. It is called even without a match.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from meterhouse.timestamps import parse_datetime

Matches = list[tuple[str, Any]]
Plugin = Callable[[Matches, list[str]], list[Any]]
"""From (path, value) pairs to values; warnings are appended to the second argument."""

_MAX_BIT: Final = 1000


class PluginError(ValueError):
    """An unknown plugin, or invalid parameters of a plugin."""


def make(name: str, parameters: Mapping[Any, Any]) -> Plugin:
    """The plugin of that name. Parameters that it does not have are ignored.

    Raises:
        PluginError: the plugin does not exist, or a parameter is invalid.
    """
    if name not in _MAKERS:
        raise PluginError(f"unknown plugin '{name}'; the plugins are {', '.join(sorted(_MAKERS))}")
    return _MAKERS[name](parameters)


def _split(parameters: Mapping[Any, Any]) -> Plugin:
    separator: Any = parameters.get("separator", ".")
    at: Any = parameters.get("segment", 0)
    limit: Any = parameters.get("max_split")
    if limit is None:
        limit = -1

    def split(matches: Matches, warn: list[str]) -> list[Any]:
        values: list[Any] = []
        for _, value in matches:
            parts = str(value).split(separator, limit)
            try:
                values.append(parts[at])
            except IndexError:
                values.append(None)
        return values

    return split


def _bitfield(parameters: Mapping[Any, Any]) -> Plugin:
    initial: Any = parameters.get("initial_bitfield", 0)
    flags = parameters.get("flags")
    if flags is not None and not (isinstance(flags, list) and all(map(_is_flag, flags))):
        raise PluginError("plugin 'bitfield' needs 'flags', a list of mappings with 'path' and 'bit'")
    wanted = [(flag["path"], 1 << int(flag["bit"]), "value" in flag, flag.get("value")) for flag in flags or []]

    def bitfield(matches: Matches, warn: list[str]) -> list[Any]:
        found = dict(matches)
        bits = initial
        for path, bit, has_value, value in wanted:
            if path in found and (not has_value or found[path] == value):
                bits |= bit
        return [bits]

    return bitfield


def _is_flag(flag: Any) -> bool:
    if not isinstance(flag, dict) or not isinstance(flag.get("path"), str):
        return False
    try:
        return 0 <= int(flag["bit"]) <= _MAX_BIT
    except (KeyError, TypeError, ValueError, OverflowError):
        return False


def _timedelta(parameters: Mapping[Any, Any]) -> Plugin:
    def timedelta(matches: Matches, warn: list[str]) -> list[Any]:
        if len(matches) != 2:
            warn.append("Timedelta plugin is required two timestamp fields to create timedelta value.")
            return [None]
        try:
            start, end = (parse_datetime(value) for _, value in matches)
        except ValueError as error:
            (first, _), (second, _) = matches
            warn.append(
                f"Failed to parse date from set fields, both fields {first} and {second} must be datetime: {error}"
            )
            return [None]
        return [abs((end - start).total_seconds())]

    return timedelta


def _map(parameters: Mapping[Any, Any]) -> Plugin:
    values, default = parameters.get("values"), parameters.get("default")
    if not isinstance(values, dict) or not values:
        raise PluginError("plugin 'map' needs 'values', a mapping that is not empty")
    case_sensitive = parameters.get("case_sensitive", True)
    known = values if case_sensitive else {_folded(key): value for key, value in values.items()}

    def mapped(matches: Matches, warn: list[str]) -> list[Any]:
        results: list[Any] = []
        for path, value in matches:
            try:
                results.append(known[value if case_sensitive else _folded(value)])
            except KeyError:
                warn.append(
                    f"Unknown value {value!r} found when mapping {path}, mapping to default value of {default!r}"
                )
                results.append(default)
        return results

    return mapped


def _folded(value: Any) -> Any:
    return value.casefold() if isinstance(value, str) else value


_MAKERS: Final[dict[str, Callable[[Mapping[Any, Any]], Plugin]]] = {
    "split": _split,
    "bitfield": _bitfield,
    "timedelta": _timedelta,
    "map": _map,
}
