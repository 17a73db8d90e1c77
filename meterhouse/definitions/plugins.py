"""The plugins of definition files: split, bitfield, timedelta and map.

A plugin gets the matches of its definition's fields, in order and even where there are none, and gives values.
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

from meterhouse.timestamps import parse_datetime

Matches = list[tuple[str, Any]]
Plugin = Callable[[Matches, list[str]], list[Any]]
"""From (path, value) pairs to values; what is worth a warning is appended to the second argument."""


class PluginError(ValueError):
    """A plugin that does not exist, or parameters that it cannot work with."""


def make(name: str, parameters: Mapping[str, Any]) -> Plugin:
    """The plugin of that name.

    Raises:
        PluginError: there is none, or it cannot work with these parameters.
    """
    if name not in _MAKERS:
        raise PluginError(f"there is no plugin '{name}'; there are {', '.join(sorted(_MAKERS))}")
    try:
        return _MAKERS[name](**parameters)
    except (TypeError, AttributeError, KeyError) as error:
        raise PluginError(f"the parameters of plugin '{name}' cannot be used: {error}") from None


def _split(separator: str = ".", segment: int = 0, max_split: int | None = None) -> Plugin:
    limit = -1 if max_split is None else int(max_split)
    at = int(segment)

    def split(matches: Matches, warn: list[str]) -> list[Any]:
        values: list[Any] = []
        for _, value in matches:
            parts = str(value).split(separator, limit)
            values.append(parts[at] if -len(parts) <= at < len(parts) else None)
        return values

    return split


def _bitfield(initial_bitfield: int = 0, flags: list[dict[str, Any]] | None = None) -> Plugin:
    wanted = [
        (str(flag["path"]).removeprefix("$."), 1 << int(flag["bit"]), "value" in flag, flag.get("value"))
        for flag in flags or []
    ]

    def bitfield(matches: Matches, warn: list[str]) -> list[Any]:
        found = dict(matches)
        bits = int(initial_bitfield)
        for path, bit, has_value, value in wanted:
            if path in found and (found[path] == value if has_value else found[path] is not None):
                bits |= bit
        return [bits]

    return bitfield


def _timedelta() -> Plugin:
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


def _map(values: dict[Any, Any] | None = None, default: Any = None, case_sensitive: bool = True) -> Plugin:
    if not isinstance(values, dict) or not values:
        raise PluginError("plugin 'map' needs a mapping 'values' that is not empty")
    known = values if case_sensitive else {_folded(key): value for key, value in values.items()}

    def mapped(matches: Matches, warn: list[str]) -> list[Any]:
        results: list[Any] = []
        for path, value in matches:
            key = value if case_sensitive else _folded(value)
            try:
                results.append(known[key])
            except (KeyError, TypeError):
                warn.append(
                    f"Unknown value {value!r} found when mapping {path}, mapping to default value of {default!r}"
                )
                results.append(default)
        return results

    return mapped


def _folded(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


_MAKERS: Final[dict[str, Callable[..., Plugin]]] = {
    "split": _split,
    "bitfield": _bitfield,
    "timedelta": _timedelta,
    "map": _map,
}
