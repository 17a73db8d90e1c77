"""Prometheus' node exporter."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import SplitResult

from ports import free_ports, reply
from processes import spawn
from programs import which
from record import Folder
from server import Daemon, Starting

URL = "METERHOUSE_TEST_NODE_URL"
PROGRAMS = ("prometheus-node-exporter", "node_exporter")


class NodeExporter(Daemon):
    """A node exporter, which tells of this machine."""

    name = "node"
    variables = (URL,)
    packages = ("prometheus-node-exporter",)
    container_port = None

    def env(self, port: int) -> dict[str, str]:
        return {URL: f"http://127.0.0.1:{port}/metrics"}

    def responds(self, url: SplitResult) -> bool:
        return b" 200 " in reply(url.hostname, url.port or 80, b"GET / HTTP/1.0\r\n\r\n")

    def find(self) -> Path | None:
        return next((Path(path) for path in map(which, PROGRAMS) if path), None)

    def start(self, folder: Folder, found: Path) -> Starting:
        port = free_ports()
        command = [str(found), f"--web.listen-address=127.0.0.1:{port}"]
        return Starting(self.env(port), spawn(folder, self.name, "node_exporter", command))
