"""VictoriaMetrics, which the benchmarks compare with."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import SplitResult

from ports import free_ports, reply
from processes import spawn
from programs import which
from record import Folder
from server import Daemon, Starting

URL = "METERHOUSE_TEST_VICTORIA_URL"


class Victoria(Daemon):
    """A VictoriaMetrics server that keeps points for ever and bounds no query."""

    name = "victoria"
    variables = (URL,)
    packages = ("victoria-metrics",)
    container_port = 8428

    def env(self, port: int) -> dict[str, str]:
        return {URL: f"http://127.0.0.1:{port}"}

    def responds(self, url: SplitResult) -> bool:
        return reply(url.hostname, url.port or 8428, b"GET /health HTTP/1.0\r\n\r\n").endswith(b"OK")

    def find(self) -> Path | None:
        program = which("victoria-metrics")
        return Path(program) if program else None

    def start(self, folder: Folder, found: Path) -> Starting:
        port = free_ports()
        flags = [
            f"-storageDataPath={folder.home(self.name) / 'data'}",
            f"-httpListenAddr=127.0.0.1:{port}",
            "-retentionPeriod=100y",
            "-search.maxUniqueTimeseries=10000000",
            "-search.maxSamplesPerQuery=10000000000",
            "-search.maxQueryDuration=10m",
            "-search.disableCache",
            "-loggerLevel=WARN",
        ]
        return Starting(self.env(port), spawn(folder, self.name, "victoria-metrics", [str(found), *flags]))
