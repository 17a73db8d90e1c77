"""A web server in this process, whose answers a test writes: also those that no real service gives on demand."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Route = Any
"""What a path answers: bytes as they are, `Raw`, a function of the request that returns one of these, or else JSON."""


@dataclass
class Raw:
    """An answer with all its parts.

    Attributes:
        status: of HTTP.
        body: as it is sent, with its length.
        headers: besides.
        pieces: in place of the body: each is sent, then `pause` seconds pass; there is no length.
    """

    status: int = 200
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)
    pieces: Iterator[bytes] | None = None
    pause: float = 0


@dataclass
class Request:
    """What was asked."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Web:
    """A server.

    Attributes:
        url: without a path.
        routes: by path with query, or by path.
        requests: in the order in which they came.
    """

    url: str
    routes: dict[str, Route]
    requests: list[Request] = field(default_factory=list)

    def paths(self) -> list[str]:
        """What was asked for."""
        return [each.path for each in self.requests]


@contextmanager
def web(routes: dict[str, Route]) -> Iterator[Web]:
    """A server with these answers; a path that it does not have is not found."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def log_message(self, *_: Any) -> None:
            pass

        def do_GET(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            headers = {name.lower(): value for name, value in self.headers.items()}
            request = Request(self.command, self.path, headers, self.rfile.read(length))
            made.requests.append(request)
            route = made.routes.get(self.path, made.routes.get(self.path.partition("?")[0], Raw(404)))
            self._send(_answer(route, request))

        do_POST = do_HEAD = do_GET  # as the standard library calls them

        def _send(self, answer: Raw) -> None:
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            if answer.pieces is None:
                self.send_header("Content-Length", str(len(answer.body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(answer.body)
                return
            self.send_header("Connection", "close")
            self.end_headers()
            self.close_connection = True
            try:
                for piece in answer.pieces:
                    self.wfile.write(piece)
                    self.wfile.flush()
                    if stopped.wait(answer.pause):
                        return
            except OSError:  # the client had enough
                pass

    stopped = threading.Event()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    made = Web(f"http://127.0.0.1:{server.server_address[1]}", routes)
    thread = threading.Thread(target=lambda: server.serve_forever(0.01))
    thread.start()
    try:
        yield made
    finally:
        stopped.set()
        server.shutdown()
        thread.join()
        server.server_close()


def _answer(route: Route, request: Request) -> Raw:
    if callable(route):
        made: Callable[[Request], Route] = route
        return _answer(made(request), request)
    if isinstance(route, Raw):
        return route
    if isinstance(route, bytes):
        return Raw(body=route)
    return Raw(body=json.dumps(route).encode(), headers={"Content-Type": "application/json"})
