"""An HTTP server of JSON lists, in place of the APIs of OpenStack's services."""

from __future__ import annotations

import sys
from pathlib import Path
from urllib.parse import SplitResult

from ports import kept_ports, reply
from processes import spawn
from record import Folder
from server import Daemon, Starting

URL = "METERHOUSE_TEST_JSON_URL"
PROGRAM = Path(__file__).resolve().parents[1] / "json_lists.py"


class JsonApi(Daemon):
    """A server of JSON lists, whose URLs say how it behaves (see `json_lists.py`)."""

    name = "json"
    variables = (URL,)
    packages = ()
    container_port = None

    def env(self, port: int) -> dict[str, str]:
        return {URL: f"http://127.0.0.1:{port}"}

    def responds(self, url: SplitResult) -> bool:
        return reply(url.hostname, url.port or 80, b"GET / HTTP/1.1\r\n\r\n").startswith(b"HTTP/1.1 200")

    def find(self) -> Path:
        """Return the interpreter that runs it."""
        return Path(sys.executable)

    def start(self, folder: Folder, found: Path) -> Starting:
        port = kept_ports(folder.home(self.name) / "port", 1)
        return Starting(self.env(port), spawn(folder, self.name, "json", [str(found), str(PROGRAM), str(port)]))
