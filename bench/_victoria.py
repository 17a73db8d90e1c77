"""VictoriaMetrics: points imported as JSON lines, and hourly aggregates of all series by its query API."""

import http.client
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import msgspec
import numpy as np
from _measured import Cost
from _points import CADENCE, DAY_MINUTES, Fleet

AT_ONCE = 500
"""Series in one request of the import."""

CSV_BYTES = 8 << 20
"""Bytes of CSV in one request."""

FUNCTIONS = ("avg", "min", "max", "count")


@dataclass(frozen=True)
class Figures:
    """Seconds by the clock and of the server's CPU, of the import and of the query; bytes of all points on
    disk, without the index of their series."""

    points: int
    imported: tuple[float, float]
    queried: tuple[float, float]
    bytes: int
    peak_mb: float


class Victoria:
    """A running server."""

    def __init__(self, url: str) -> None:
        self._netloc = urlsplit(url).netloc
        self._run = uuid.uuid4().hex  # a label of its points, so that those of other runs do not count

    def measure(self, fleet: Fleet, day: datetime) -> Figures:
        """Import a day of points and query its hourly averages, minima, maxima and counts."""
        bodies = self._bodies(fleet, day)
        before = self._metrics()
        clock = time.perf_counter()
        self._import(bodies)
        imported = time.perf_counter() - clock
        self._request("GET", "/internal/force_flush")
        after = self._metrics()
        clock = time.perf_counter()
        answer = self._query(day)
        queried = time.perf_counter() - clock
        last = self._metrics()
        if (counted := _counted(answer)) != fleet.series * DAY_MINUTES:
            raise RuntimeError(f"VictoriaMetrics counts {counted:,}")
        self._request("GET", "/internal/force_merge")
        cpu = "process_cpu_seconds_total"
        return Figures(
            fleet.series * DAY_MINUTES,
            (imported, after[cpu] - before[cpu]),
            (queried, last[cpu] - after[cpu]),
            self._bytes() - int(_bytes_of(before)),
            last["process_resident_memory_peak_bytes"] / 1e6,
        )

    def import_json(self, fleet: Fleet, start: datetime, minutes: int) -> Cost:
        """What it takes to import points as JSON lines."""
        bodies = self._bodies(fleet, start, minutes)
        return self._cost(lambda: self._import(bodies))

    def import_csv(self, path: Path, form: str) -> Cost:
        """What it takes to import a CSV file, which is read in parts of whole lines.

        Args:
            path: the file; its header is left out.
            form: what its columns are, in the server's words.
        """

        def parts() -> Iterator[bytes]:
            with path.open("rb") as file:
                file.readline()
                while part := file.read(CSV_BYTES):
                    yield part + file.readline()

        query = urlencode({"format": form, "extra_label": f"run={self._run}"})
        return self._cost(lambda: self._import(parts(), f"/api/v1/import/csv?{query}"))

    def _cost(self, work: Callable[[], None]) -> Cost:
        cpu, before = "process_cpu_seconds_total", self._metrics()
        clock = time.perf_counter()
        work()
        wall = time.perf_counter() - clock
        self._request("GET", "/internal/force_flush")
        after = self._metrics()
        return Cost(wall, after[cpu] - before[cpu], after["process_resident_memory_peak_bytes"] / 1e6, None)

    def take(self, fleet: Fleet, day: datetime) -> None:
        """Import a day of points, and make them visible to queries."""
        self._import(self._bodies(fleet, day))
        self._request("GET", "/internal/force_flush")

    def hourly_means_by_project(self, meter: str, day: datetime) -> tuple[float, int]:
        """The seconds that a query for them takes, without the server's cache, and how many means it gives."""
        start = day.timestamp() + 3_600 - 0.001
        name = meter.replace(".", "_")
        query = {
            "query": f'avg by (project_id) (avg_over_time({name}{{run="{self._run}"}}[1h]))',
            "start": f"{start:.3f}",
            "end": f"{start + 23 * 3_600:.3f}",
            "step": "3600",
            "nocache": "1",
        }
        clock = time.perf_counter()
        answer = self._request("POST", "/api/v1/query_range", urlencode(query).encode())
        seconds = time.perf_counter() - clock
        return seconds, sum(len(each["values"]) for each in msgspec.json.decode(answer)["data"]["result"])

    def _bodies(self, fleet: Fleet, day: datetime, minutes: int = DAY_MINUTES) -> list[bytes]:
        """The requests of an import; making them does not count."""
        stamps = (int(day.timestamp()) + np.arange(minutes) * CADENCE) * 1_000
        moments, encode = msgspec.Raw(msgspec.json.encode(stamps.tolist())), msgspec.json.encode
        names = fleet.dimensions
        bodies, lines = [], []
        volumes = fleet.volumes(range(minutes))
        for number in range(fleet.series):
            labels = {"__name__": names["meter"][number].replace(".", "_"), "run": self._run}
            labels |= {name: names[name][number] for name in ("resource_id", "project_id", "user_id", "unit", "type")}
            lines.append(encode({"metric": labels, "values": volumes[number].tolist(), "timestamps": moments}))
            if len(lines) == AT_ONCE or number == fleet.series - 1:
                bodies.append(b"\n".join(lines))
                lines = []
        return bodies

    def _import(self, bodies: Iterable[bytes], path: str = "/api/v1/import") -> None:
        """Send requests over two connections."""
        waiting, lock = iter(bodies), threading.Lock()

        def send() -> None:
            while True:
                with lock:
                    body = next(waiting, None)
                if body is None:
                    return
                self._request("POST", path, body)

        threads = [threading.Thread(target=send) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _query(self, day: datetime) -> bytes:
        """Ask for four values of each hour of all series."""
        names = ", ".join(f'"{name}_over_time"' for name in FUNCTIONS)
        start = day.timestamp() + 3_600 - 0.001  # the hour before this moment: from its first point to its last
        query = {
            "query": f'aggr_over_time(({names}), {{run="{self._run}"}}[1h])',
            "start": f"{start:.3f}",
            "end": f"{start + 23 * 3_600:.3f}",
            "step": "3600",
            "nocache": "1",
        }
        return self._request("POST", "/api/v1/query_range", urlencode(query).encode())

    def _metrics(self) -> dict[str, float]:
        time.sleep(1.1)  # the server counts its seconds once a second
        lines = self._request("GET", "/metrics").decode().splitlines()
        pairs = (line.rpartition(" ") for line in lines if line and not line.startswith("#"))
        return {name: float(value) for name, _, value in pairs}

    def _bytes(self) -> int:
        """The bytes on disk, once the merge has ended."""
        last, since = -1, time.monotonic()
        while time.monotonic() - since < 60:
            found = int(_bytes_of(self._metrics()))
            if found == last:
                return found
            last = found
            time.sleep(2)
        return last

    def _request(self, method: str, path: str, body: bytes | None = None) -> bytes:
        connection = http.client.HTTPConnection(self._netloc, timeout=600)
        headers = {"Content-Type": "application/x-www-form-urlencoded"} if path.startswith("/api/v1/query") else {}
        connection.request(method, path, body, headers)
        with connection.getresponse() as response:
            answer = response.read()
            if response.status >= 300:
                raise RuntimeError(f"VictoriaMetrics: {path}: {response.status}: {answer[:300].decode()}")
        connection.close()
        return answer


def _counted(answer: bytes) -> int:
    """How many points the hourly counts of an answer are, all together."""
    found = msgspec.json.decode(answer)["data"]["result"]
    counts = (series["values"] for series in found if series["metric"]["rollup"] == "count_over_time")
    return sum(int(value) for values in counts for _, value in values)


def _bytes_of(metrics: dict[str, float]) -> float:
    return sum(value for name, value in metrics.items() if name.startswith('vm_data_size_bytes{type="storage'))
