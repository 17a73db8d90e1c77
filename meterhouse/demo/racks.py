"""Racks whose power a real HTTP server on this machine reports: what the demo polls."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

METER = "rack.power"
ROOMS = ("north", "north", "south", "south")

SOURCES = """sources:
  - name: racks
    interval: 86400
    meters: [rack.power]
    resources: ["{url}"]
"""
"""polling.yaml: one slot a day, so that the demo knows what it has to find."""

POLLSTER = """- name: rack.power
  description: What a rack draws.
  sample_type: gauge
  unit: W
  endpoint_type: racks
  url_path: racks.json
  response_entries_key: racks
  value_attribute: watts
  metadata_fields: [room]
"""


class Racks:
    """A context manager that serves the racks as JSON, on a free port.

    Attributes:
        polls: number of requests that were answered.
    """

    def __init__(self) -> None:
        self.polls = 0
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        racks = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                body = json.dumps({"racks": racks.state()}).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:
                """Log nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        """The address, while the server runs."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def state(self) -> list[dict[str, Any]]:
        """The racks as they are now; counts one poll."""
        with self._lock:
            self.polls += 1
            return [
                {"id": f"rack-{at}", "room": room, "watts": 3_000 + 250 * at + self.polls}
                for at, room in enumerate(ROOMS, 1)
            ]
