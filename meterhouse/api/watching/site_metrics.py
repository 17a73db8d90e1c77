"""Metrics of the site, for Prometheus: from its stores, looked at every few seconds however often they are read."""

import asyncio
from collections.abc import Iterator
from datetime import datetime
from typing import Any, Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from meterhouse.alarms.delivery.threads import in_thread
from meterhouse.api.watching.figures import SUMMED, FigureReader, Figures
from meterhouse.api.watching.parts import Part
from meterhouse.collection.lag import Lag, measure
from meterhouse.site import Site

SECONDS: Final = 10.0
"""How long figures are shown before they are read again."""

_WHAT: Final = {
    ("collect", "messages"): ("collected_messages", "Messages that were taken from the stream."),
    ("collect", "landed"): ("landed_messages", "Messages that were landed in the lake."),
    ("collect", "dead_letters"): ("dead_letters", "Messages that could not be used."),
    ("convert", "samples"): ("converted_samples", "Samples that notifications were converted to."),
    ("convert", "events"): ("converted_events", "Events that notifications were converted to."),
    ("convert", "errors"): ("conversion_errors", "Errors of conversion."),
}
assert set(_WHAT) == {(step, name) for step, names in SUMMED.items() for name in names}


class SiteMetrics(Collector):
    """The site's figures. Those of a part that is away are missing, and `meterhouse_up` of it is 0.

    Args:
        registry: gets the metrics.
        site: the site.
        others: further parts that `meterhouse_up` tells of.
    """

    def __init__(self, registry: CollectorRegistry, site: Site, others: tuple[Part[Any], ...]) -> None:
        reader = FigureReader(site)

        def lag() -> Lag:
            return measure(site)

        self._warehouse: Part[Figures] = Part("warehouse", lambda: in_thread(reader.read), SECONDS)
        self._stream: Part[Lag] = Part("stream", lambda: in_thread(lag), SECONDS)
        self._others = others
        self._up: dict[str, bool] = {}
        self._figures: Figures | None = None
        self._lag: Lag | None = None
        registry.register(self)

    async def refresh(self) -> None:
        """Look at the parts, before the metrics are collected."""
        self._figures, self._lag, *others = await asyncio.gather(
            self._warehouse.seen(), self._stream.seen(), *(part.seen() for part in self._others)
        )
        self._up = {"warehouse": self._figures is not None, "stream": self._lag is not None}
        self._up |= {part.name: found is not None for part, found in zip(self._others, others, strict=True)}

    def describe(self) -> list[Metric]:
        """Nothing: what there is depends on the parts."""
        return []

    def collect(self) -> Iterator[Metric]:
        """The metrics, as of the last look."""
        up = _gauge("up", "Whether a part of the site answers.", "part")
        for name, is_up in self._up.items():
            up.add_metric((name,), float(is_up))
        yield up
        if self._lag is not None:
            yield from _of_stream(self._lag)
        if self._figures is not None:
            yield from _of_warehouse(self._figures)


def _of_stream(lag: Lag) -> Iterator[Metric]:
    waiting = _gauge("stream_waiting_messages", "Messages that wait; in a spool folder, files.", "place")
    oldest = _gauge("stream_oldest_seconds", "How long the oldest message has waited; 0 if none waits.", "place")
    for queue in lag.queues:
        if not queue.missing:
            waiting.add_metric((queue.place,), queue.messages)
            oldest.add_metric((queue.place,), queue.age_seconds or 0.0)
    yield waiting
    yield oldest
    if lag.drain_seconds is not None:
        yield _one("stream_drain_seconds", "Time to take what waits, at the last run's rate.", lag.drain_seconds)


def _of_warehouse(figures: Figures) -> Iterator[Metric]:
    for key, (name, what) in _WHAT.items():
        yield CounterMetricFamily(f"meterhouse_{name}", what, value=figures.summed[key])
    ended = _gauge("step_ended_timestamp_seconds", "When the last run of a step ended.", "step")
    for step, moment in figures.ended.items():
        ended.add_metric((step,), moment.timestamp())
    yield ended
    yield _one("good_points", "Points that quality rules let through.", figures.good)
    yield _one("excluded_points", "Points that quality rules exclude.", figures.excluded)
    for name, what, label, found in (
        ("dirty_hours", "Event hours that wait for a step.", "step", figures.dirty),
        ("alarms", "Enabled alarms.", "state", figures.alarms),
        ("deliveries", "Notifications of alarms.", "state", figures.deliveries),
    ):
        family = _gauge(name, what, label)
        for key_, number in found.items():
            family.add_metric((key_,), number)
        yield family
    if figures.evaluated_at is not None:
        yield _moment("alarms_evaluated_timestamp_seconds", "When the alarms were evaluated.", figures.evaluated_at)


def _gauge(name: str, what: str, label: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"meterhouse_{name}", what, labels=(label,))


def _one(name: str, what: str, value: float) -> GaugeMetricFamily:
    return GaugeMetricFamily(f"meterhouse_{name}", what, value=value)


def _moment(name: str, what: str, moment: datetime) -> GaugeMetricFamily:
    return _one(name, what, moment.timestamp())
