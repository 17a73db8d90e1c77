"""Aodh's evaluator, in a virtual environment of its own, on measures that this process answers in Gnocchi's format."""

import json
import subprocess
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from _peers import interpreter

VERSION = "23.0.0"


@dataclass(frozen=True)
class Evaluated:
    """What Aodh did: alarms, and the seconds that they took, by the clock and of its processor."""

    alarms: int
    seconds: float
    cpu: float
    states: Mapping[str, int]


def measure(folder: Path, measures: Mapping[str, Sequence[tuple[str, float]]], seconds: int) -> Evaluated:
    """Evaluate an alarm for each resource, for at most so many seconds.

    Args:
        folder: for its database.
        measures: by resource, the start and the value of each period of 60 s.
        seconds: how long.

    Raises:
        CalledProcessError: Aodh failed; its log is in the folder.
    """
    answers = {
        resource: json.dumps([[start, 60.0, value] for start, value in periods]).encode()
        for resource, periods in measures.items()
    }

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1

        def do_GET(self) -> None:
            """Answer `/v1/resource/TYPE/RESOURCE/metric/NAME/measures`."""
            body = answers.get(self.path.split("/")[4], b"[]")
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *said: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    folder.mkdir(parents=True, exist_ok=True)
    given = {
        "folder": str(folder),
        "url": f"http://127.0.0.1:{server.server_port}",
        "resources": list(measures),
        "seconds": seconds,
    }
    script = Path(__file__).with_name("_aodh_inside.py")
    try:
        done = subprocess.run(
            [interpreter("aodh", VERSION), "-W", "ignore", script],
            input=json.dumps(given),
            check=True,
            capture_output=True,
            text=True,
        )
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
    found = json.loads(done.stdout)
    return Evaluated(found["alarms"], found["seconds"], found["cpu"], found["states"])
