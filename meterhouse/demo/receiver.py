"""A real HTTP server on this machine that receives the alarms' webhooks of the demo, and of `meterhouse verify`."""

import json
import socket
import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class Call:
    """A POST request that was received.

    Attributes:
        path: the path and query of the request.
        headers: the headers, with names in lower case.
        body: the content of the JSON, or the text if it is not JSON.
        received_at: when it was read, UTC.
    """

    path: str
    headers: dict[str, str]
    body: Any
    received_at: datetime


class WebhookReceiver:
    """A context manager that serves on a free port and records the POST requests to `url`.

    Args:
        fail_first: the number of calls that are first answered 503 and recorded in `refused`. Later calls are answered
            200 and recorded in `calls`.
        host: the address or name by which callers reach this machine; it listens on the loopback address alone, or
            else on all addresses.
        port: to listen on; 0 for a free one.
    """

    def __init__(self, fail_first: int = 0, host: str = "127.0.0.1", port: int = 0) -> None:
        self._fail_first, self._host, self._port = fail_first, host, port
        self._lock = threading.Lock()
        self._calls: list[Call] = []
        self._refused: list[Call] = []
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """The URL for POST requests, while the server runs."""
        if self._server is None:
            raise RuntimeError("the receiver has no address before it is entered")
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"http://{host}:{self._server.server_port}/alarm"

    @property
    def calls(self) -> list[Call]:
        """The calls that were accepted so far, in order of arrival."""
        with self._lock:
            return list(self._calls)

    @property
    def refused(self) -> list[Call]:
        """The calls that were answered 503 so far."""
        with self._lock:
            return list(self._refused)

    def record(self, call: Call) -> bool:
        """Record a call; return whether to accept it."""
        with self._lock:
            accepted = len(self._refused) >= self._fail_first
            (self._calls if accepted else self._refused).append(call)
            return accepted

    def __enter__(self) -> Self:
        self._server = _Server(self, self._host, self._port)
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, name="webhook-receiver", daemon=True
        )
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self._server is not None and self._thread is not None:
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = False  # so that server_close waits for calls in progress
    request_queue_size = 128  # deliveries come many at a time

    def __init__(self, receiver: WebhookReceiver, host: str, port: int) -> None:
        self.receiver = receiver
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        loopback = host in ("127.0.0.1", "::1", "localhost")
        super().__init__(("127.0.0.1" if host == "localhost" else host if loopback else "", port), _Handler)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print nothing, for instance if a caller disconnects early."""


class _Handler(BaseHTTPRequestHandler):
    timeout = 5
    server: _Server

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        text = self.rfile.read(int(length) if length.isdigit() else 0).decode("utf-8", "replace")
        try:
            body = json.loads(text)
        except ValueError:
            body = text
        headers = {name.lower(): value for name, value in self.headers.items()}
        accepted = self.server.receiver.record(Call(self.path, headers, body, datetime.now(UTC)))
        self.send_response(200 if accepted else 503)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing."""
