"""Reads what Gnocchi's API and its client export: measures, and the listings that say whose they are.

Measures are an array of `[TIME, GRANULARITY, VALUE]` (the API's `/v1/metric/ID/measures`), or of objects with
`timestamp`, `granularity` and `value` (`gnocchi measures show -f json`); or many such arrays in an object, by metric
(`{METRIC_ID: [...]}`), by resource and metric (`{RESOURCE_ID: {NAME: [...]}}`, or `{NAME: {"measures": [...]}}`: the
forms of its batches), or as `/v1/aggregates` answers (`{"measures": {METRIC_ID: {"mean": [...]}}}`).

Source: https://gnocchi.osci.io/rest.html
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Final

from meterhouse import shipped
from meterhouse.collection import json_points
from meterhouse.collection.column_names import GRANULARITY
from meterhouse.collection.json_points import Series
from meterhouse.collection.json_text import POINTS_BYTES, JsonText
from meterhouse.collection.sample_rows import BadFile, Task, Told, untold

_WHAT: Final = "measures of Gnocchi"
_MEASURES: Final = "measures"
_FIELDS: Final = ("timestamp", GRANULARITY, "volume")


@dataclass
class Listings:
    """What Gnocchi's listings say of metrics and resources, by id."""

    metrics: dict[str, dict[str, Any]] = field(default_factory=dict)
    resources: dict[str, dict[str, Any]] = field(default_factory=dict)

    def read(self, path: Path) -> None:
        """Add a listing, as `gnocchi metric list -f json` or `gnocchi resource list -f json` prints it, or the API.

        Raises:
            BadFile: it is neither.
        """
        try:
            rows = json.loads(path.read_bytes())
        except OSError as error:
            raise BadFile(f"cannot be read: {error.strerror or error}", where=str(path)) from None
        except (ValueError, RecursionError) as error:
            raise BadFile(f"is not JSON: {error}", where=str(path)) from None
        if not isinstance(rows, list) or not all(
            isinstance(row, dict) and isinstance(row.get("id"), str) for row in rows
        ):
            raise BadFile(
                "is not a listing of Gnocchi's metrics or resources",
                where=str(path),
                hint="Export it with `gnocchi metric list -f json` or `gnocchi resource list -f json`",
            )
        for row in rows:
            (self.metrics if "resource_id" in row else self.resources)[row["id"]] = row

    def of_metric(self, metric_id: str) -> Series | None:
        """The series of a metric; None if it is not listed."""
        metric = self.metrics.get(metric_id)
        if metric is None:
            return None
        return self.of_resource(_text(metric.get("resource_id")), _text(metric.get("name")), _text(metric.get("unit")))

    def of_resource(self, resource_id: str | None, name: str | None, unit: str | None = None) -> Series:
        """The series of a resource's metric. The resource has its own id, which Gnocchi replaces if it is no UUID."""
        resource = self.resources.get(resource_id or "", {})
        kind, usual_unit = _polled().get(name or "", (None, None))
        return {
            "meter": name,
            "type": kind,
            "unit": unit or usual_unit,
            "resource_id": _text(resource.get("original_resource_id")) or resource_id,
            "project_id": _text(resource.get("project_id")),
            "user_id": _text(resource.get("user_id")),
        }


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


@lru_cache(maxsize=1)
def _polled() -> Mapping[str, tuple[str, str]]:
    """Type and unit of the meters that Ceilometer's agents poll, by name."""
    import yaml

    listed = yaml.safe_load((shipped.DEFAULTS / "polled_meters.yaml").read_text("utf-8"))
    return {name: (kind, unit) for group in listed.values() for name, kind, unit, _ in group}


def read_gnocchi(path: Path, folder: Path | None, listings: Listings, told: Told = untold) -> Iterator[Task]:
    """The parts of a file of measures, in order. A measure's line is its number, from 1.

    Args:
        path: the file.
        folder: where a `.gz` is decompressed; None for the system's.
        listings: whose the measures are.
        told: see `Told`.

    Raises:
        BadFile: it has another form, or a metric that is not listed.
    """
    text = JsonText(path, folder, _WHAT)
    try:
        held: list[tuple[Series, bytes]] = []
        size, number, count = 0, 1, 0
        for series, part in _of_file(text, path, listings):
            held.append((series, part))
            size += len(part)
            count += json_points.count(part)
            if size >= POINTS_BYTES:
                told(text.share)
                yield partial(json_points.rows, path, held, _FIELDS, number)
                held, size, number, count = [], 0, number + count, 0
        if held:
            yield partial(json_points.rows, path, held, _FIELDS, number)
    finally:
        text.close()


def _of_file(text: JsonText, path: Path, listings: Listings) -> Iterator[tuple[Series, bytes]]:
    if text.peek() == b"[":
        for part in text.points():
            yield {}, part
        return
    aggregated: dict[str, str] = {}
    for keys in _arrays(text, ()):
        names = list(keys[1:] if keys[0] == _MEASURES else keys)
        if keys[0] == _MEASURES and len(names) > 1:
            method = names.pop()
            if aggregated.setdefault("/".join(names), method) != method:
                raise BadFile(
                    f"has several aggregates of {'/'.join(names)}: {aggregated['/'.join(names)]} and {method}",
                    where=str(path),
                    hint="Export one of them",
                )
        elif names[-1] == _MEASURES:
            names.pop()
        series = _named(path, names, listings)
        for part in text.points():
            yield series, part


def _arrays(text: JsonText, keys: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """The keys that lead to each array of measures. Take the array before the next one."""
    for key in text.members():
        following = text.peek()
        if following == b"{" and len(keys) < 4:
            yield from _arrays(text, (*keys, key))
        elif following == b"[" and key != "references":
            yield (*keys, key)
        else:
            text.value()


def _named(path: Path, names: Sequence[str], listings: Listings) -> Series:
    """The series that keys name: a metric's id, or a resource's id and the name of a metric."""
    if len(names) == 2:
        return listings.of_resource(*names)
    series = listings.of_metric(names[0]) if len(names) == 1 else None
    if series is None:
        raise BadFile(
            f"has measures of the metric {'/'.join(names)[:80]}, which is not listed",
            where=str(path),
            hint="Export `gnocchi metric list -f json > metrics.json`, and load with --listing metrics.json",
        )
    return series
