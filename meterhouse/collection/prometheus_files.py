"""Reads answers of Prometheus's `query_range`, which other servers of time series give too.

Form: `{"status": "success", "data": {"resultType": "matrix", "result": [{"metric": {LABEL: VALUE}, "values": [[SECONDS,
"VALUE"], ...]}, ...]}}`. Source: https://prometheus.io/docs/prometheus/latest/querying/api/#range-queries
"""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

from meterhouse.collection import json_points
from meterhouse.collection.json_points import Series
from meterhouse.collection.json_text import POINTS_BYTES, JsonText
from meterhouse.collection.judged_rows import DIMENSIONS, TYPES
from meterhouse.collection.sample_rows import BadFile, Task, Told, untold

LABELS: Final[Mapping[str, Sequence[str]]] = {
    "meter": ("__name__",),
    "resource_id": ("resource_id", "resource", "instance"),
    "type": ("type",),
    "unit": ("unit",),
    "project_id": ("project_id", "project", "tenant_id"),
    "user_id": ("user_id", "user"),
}
"""By dimension, the labels that may have it: the first that a series has is taken."""

_COUNTERS: Final = ("_total", "_count", "_sum", "_bucket")
"""How the names of counters end, by Prometheus's convention."""

_WHAT: Final = "an answer of Prometheus's query_range"


def read_prometheus(
    path: Path, folder: Path | None, joined: Mapping[str, Sequence[str]], meter: str, told: Told = untold
) -> Iterator[Task]:
    """The parts of an answer, in order. A point's line is its number, from 1.

    Args:
        path: the file.
        folder: where a `.gz` is decompressed; None for the system's.
        joined: by dimension, labels whose values, joined by `/`, are its value; instead of LABELS.
        meter: that of series without one: a query with a function has no name.
        told: see `Told`.

    Raises:
        BadFile: it is not such an answer, or two of its series differ only in labels that are not used.
    """
    text = JsonText(path, folder, _WHAT)
    try:
        labels = _Labels(path, joined, meter)
        held: list[tuple[Series, bytes]] = []
        size, number, count = 0, 1, 0
        for metric, part in _series(text):
            held.append((labels.series(metric), part))
            size += len(part)
            count += json_points.count(part)
            if size >= POINTS_BYTES:
                told(text.share)
                yield partial(json_points.rows, path, held, ("timestamp", "volume"), number)
                held, size, number, count = [], 0, number + count, 0
        if held:
            yield partial(json_points.rows, path, held, ("timestamp", "volume"), number)
    finally:
        text.close()


def _series(text: JsonText) -> Iterator[tuple[dict[str, Any], bytes]]:
    """The labels and the points of each series; of one with many points, in parts."""
    for key in text.members():
        if key != "data":
            text.value()
            continue
        for inner in text.members():
            if inner != "result":
                text.value()
                continue
            for _ in text.elements():
                yield from _one(text)


def _one(text: JsonText) -> Iterator[tuple[dict[str, Any], bytes]]:
    metric: Any = None
    for key in text.members():
        if key == "values":
            if metric is None:
                raise text.fault("the points come before their labels")
            for part in text.points():
                yield metric, part
        elif key == "metric":
            metric = text.value()
            if not isinstance(metric, dict):
                raise text.fault("the labels are no object")
        else:
            text.value()


class _Labels:
    """Makes series of labels."""

    def __init__(self, path: Path, joined: Mapping[str, Sequence[str]], meter: str) -> None:
        self._path, self._joined, self._meter = path, joined, meter
        self._known: dict[tuple[str | None, ...], dict[str, Any]] = {}

    def series(self, labels: dict[str, Any]) -> Series:
        """The series with these labels.

        Raises:
            BadFile: another one is the same but for labels that are not used.
        """
        made = {name: self._value(name, labels) for name in LABELS}
        made["meter"] = meter = made["meter"] or self._meter
        if made["type"] not in TYPES:
            made["type"] = "cumulative" if meter.endswith(_COUNTERS) else "gauge"
        key = tuple(made.get(name) for name in DIMENSIONS)
        other = self._known.setdefault(key, labels)
        if other != labels:
            differing = sorted(name for name in {*other, *labels} if other.get(name) != labels.get(name))
            raise BadFile(
                f"has series of {meter} that differ only in {', '.join(differing)}",
                where=str(self._path),
                hint=f"Make it part of the resource: --label resource_id=instance,{','.join(differing)}",
            )
        return made

    def _value(self, name: str, labels: dict[str, Any]) -> str | None:
        if (names := self._joined.get(name)) is not None:
            return "/".join(str(labels[each]) for each in names if labels.get(each)) or None
        return next((str(labels[each]) for each in LABELS[name] if labels.get(each)), None)
