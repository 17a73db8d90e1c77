"""A load generator for HTTP: some clients, each with a connection of its own, in threads of this process."""

import http.client
import json
import math
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Call:
    """A request. `body` is sent as JSON."""

    path: str
    method: str = "GET"
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Answered:
    """How requests were answered: milliseconds of each in order, seconds of all, and the last body."""

    milliseconds: list[float]
    seconds: float
    last: bytes = b""

    @property
    def p50(self) -> float:
        """The median, in milliseconds."""
        return self._quantile(0.5)

    @property
    def p95(self) -> float:
        """The 95th percentile, in milliseconds."""
        return self._quantile(0.95)

    @property
    def rate(self) -> float:
        """Requests a second."""
        return len(self.milliseconds) / self.seconds

    def _quantile(self, part: float) -> float:
        ordered = sorted(self.milliseconds)
        return ordered[min(len(ordered) - 1, math.ceil(part * len(ordered)) - 1)]


class Client:
    """One client, on one connection that is kept open."""

    def __init__(self, host: str, port: int) -> None:
        self._connection = http.client.HTTPConnection(host, port, timeout=120)

    def ask(self, call: Call) -> bytes:
        """The body of the answer.

        Raises:
            RuntimeError: it is an error.
        """
        headers = dict(call.headers)
        content = None
        if call.body is not None:
            content = json.dumps(call.body).encode()
            headers["Content-Type"] = "application/json"
        self._connection.request(call.method, call.path, content, headers)
        answer = self._connection.getresponse()
        body = answer.read()
        if answer.status >= 300:
            raise RuntimeError(f"{call.method} {call.path}: {answer.status} {body[:300]!r}")
        return body


def one_after_the_other(client: Client, calls: list[Call], warm: int = 2) -> Answered:
    """Ask each request in turn; the first `warm` do not count."""
    taken, body = [], b""
    began = time.perf_counter()
    for number, call in enumerate(calls):
        if number == warm:
            began = time.perf_counter()
        clock = time.perf_counter()
        body = client.ask(call)
        if number >= warm:
            taken.append((time.perf_counter() - clock) * 1e3)
    return Answered(taken, time.perf_counter() - began, body)


def together(host: str, port: int, clients: int, seconds: float, work: Callable[[Client, int, int], int]) -> Answered:
    """Let clients work side by side for a while.

    Args:
        host: the server.
        port: the server's.
        clients: how many.
        seconds: for how long.
        work: is called with a client, its number and the number of its turn; gives how many requests it made.
    """
    taken: list[float] = []
    faults: list[BaseException] = []
    until = time.perf_counter() + seconds

    def run(number: int) -> None:
        client, turn = Client(host, port), 0
        try:
            while time.perf_counter() < until:
                clock = time.perf_counter()
                count = work(client, number, turn)
                each = (time.perf_counter() - clock) * 1e3 / count
                taken.extend([each] * count)
                turn += 1
        except BaseException as error:
            faults.append(error)

    began = time.perf_counter()
    threads = [threading.Thread(target=run, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if faults:
        raise faults[0]
    return Answered(taken, time.perf_counter() - began)
