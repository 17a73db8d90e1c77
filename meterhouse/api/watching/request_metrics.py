"""Metrics of this process and of the requests to it, for Prometheus."""

from typing import Final

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from meterhouse.api.serving.lanes import Lanes
from meterhouse.api.watching.observed import Observation

BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Upper bounds of the classes of times, in seconds."""

METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

UNKNOWN: Final = "(unknown)"
"""Path of requests that the API has none for, and method of those whose method is none: a client invents no series."""


class RequestMetrics:
    """Counts what is observed.

    Args:
        registry: gets the metrics.
        lanes: in which work is done.
    """

    def __init__(self, registry: CollectorRegistry, lanes: Lanes) -> None:
        self._requests = Counter(
            "meterhouse_api_requests",
            "Requests that were answered, by the template of their path.",
            ("method", "path", "status"),
            registry=registry,
        )
        self._seconds = Histogram(
            "meterhouse_api_request_seconds",
            "Time from a request's head to the end of its answer.",
            ("method", "path"),
            buckets=BUCKETS,
            registry=registry,
        )
        self._waited = Histogram(
            "meterhouse_api_wait_seconds",
            "Time that the work for an answer waited for a thread.",
            buckets=BUCKETS,
            registry=registry,
        )
        self._sent = Counter("meterhouse_api_sent_bytes", "Bytes of the bodies of answers.", registry=registry)
        self._in_flight = Gauge("meterhouse_api_requests_in_flight", "Requests being answered.", registry=registry)
        disable_created_metrics()  # otherwise each counter has a second series
        registry.register(_Lanes(lanes))
        ProcessCollector(registry=registry)

    def begin(self) -> None:
        """A request has come."""
        self._in_flight.inc()

    def observe(self, seen: Observation) -> None:
        """A request was answered."""
        self._in_flight.dec()
        method = seen.scope["method"] if seen.scope["method"] in METHODS else UNKNOWN
        path = seen.path or UNKNOWN
        self._requests.labels(method, path, str(seen.status)).inc()
        self._seconds.labels(method, path).observe(seen.seconds)
        self._sent.inc(seen.sent)
        waited = seen.scope.get("state", {}).get("waited")
        if waited is not None:
            self._waited.observe(waited)


class _Lanes(Collector):
    def __init__(self, lanes: Lanes) -> None:
        self._lanes = lanes

    def collect(self) -> "list[GaugeMetricFamily]":
        jobs = GaugeMetricFamily(
            "meterhouse_api_jobs", "Pieces of work for answers, by the lane that they are in.", labels=("lane", "state")
        )
        for lane in self._lanes.all:
            jobs.add_metric((lane.name, "running"), lane.busy)
            jobs.add_metric((lane.name, "waiting"), lane.queued)
        return [jobs]
