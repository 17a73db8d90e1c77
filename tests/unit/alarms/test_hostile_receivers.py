"""Whatever a receiver does, a call ends by its deadline, reads the status only, and delays nobody else."""

import itertools
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from brokers import make_certificates
from conftest import OpenSite
from outbox import ledger, put

from meterhouse.alarms.delivery import deliver as deliver_module
from meterhouse.alarms.delivery.deliver import Delivered, deliver
from meterhouse.demo.receiver import WebhookReceiver
from meterhouse.site import Site

PATIENCE = 60.0
"""Seconds after which a call counts as one that never ends."""


class Receiver:
    """A server whose behaviour is a generator of what to send, each `pause` seconds, until the test is over."""

    def __init__(
        self,
        answer: Callable[[], Iterator[bytes]],
        *,
        pause: float = 0.0,
        reads: bool = True,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.answer, self.pause, self.reads, self.tls = answer, pause, reads, tls
        self.sent = self.calls = 0
        self.over = threading.Event()
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=300)
        self.url = f"http://127.0.0.1:{self.listener.getsockname()[1]}/"
        self.threads = [threading.Thread(target=self._accept)]
        self.threads[0].start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self.listener.accept()
                self.threads.append(threading.Thread(target=self._serve, args=(connection,)))
                self.threads[-1].start()

    def _serve(self, connection: socket.socket) -> None:
        with suppress(OSError), connection:
            self.calls += 1
            if not self.reads:
                self.over.wait()
                return
            connection.settimeout(PATIENCE)
            if self.tls:
                with self.tls.wrap_socket(connection, server_side=True) as secure:
                    self._answer(secure)
            else:
                self._answer(connection)

    def _answer(self, connection: socket.socket) -> None:
        connection.recv(1 << 16)
        for piece in self.answer():
            if self.over.wait(self.pause) if self.pause else self.over.is_set():
                return
            connection.sendall(piece)
            self.sent += len(piece)
        self.over.wait()

    def close(self) -> None:
        self.over.set()
        with suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for thread in self.threads:
            thread.join()


@contextmanager
def receiver(answer: Callable[[], Iterator[bytes]], **how: Any) -> Iterator[Receiver]:
    server = Receiver(answer, **how)
    try:
        yield server
    finally:
        server.close()


def delivered(site: Site) -> Delivered:
    """Deliver, but fail if it does not end."""
    results: list[Delivered] = []
    thread = threading.Thread(target=lambda: results.append(deliver(site)), daemon=True)
    thread.start()
    thread.join(PATIENCE)
    assert results, "the delivery does not end"
    return results[0]


def forever(*pieces: bytes, start: bytes = b"") -> Callable[[], Iterator[bytes]]:
    return lambda: itertools.chain([start] if start else [], itertools.cycle(pieces))


OK = b"HTTP/1.1 200 OK\r\n"
NEVER_ENDS = {
    "a byte of the status at a time": (forever(b"H"), 0.05),
    "a line of the header at a time": (forever(b"x: y\r\n", start=OK), 0.05),
    "a byte of the header at a time": (forever(b"x", start=OK), 0.05),
    "an endless header": (forever(b"x: y\r\n" * 1000, start=OK), 0.0),
    "an endless line": (forever(b"x" * 60_000, start=OK), 0.0),
    "continue, slowly": (forever(b"HTTP/1.1 100 Continue\r\n\r\n"), 0.05),
    "continue, fast": (forever(b"HTTP/1.1 100 Continue\r\n\r\n" * 500), 0.0),
    "early hints": (forever(b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" * 500), 0.0),
    "nothing": (lambda: iter(()), 0.0),
    "not HTTP": (forever(b"\0" * 1000), 0.0),
}


@pytest.mark.parametrize("kind", NEVER_ENDS)
def test_a_receiver_whose_answer_never_ends_is_a_failed_attempt(open_site: OpenSite, kind: str) -> None:
    site = open_site(webhook_timeout_seconds=0.3)
    answer, pause = NEVER_ENDS[kind]
    with receiver(answer, pause=pause) as slow:
        put(site, slow.url)
        assert delivered(site).failed == 1
    assert ledger(site)[0][0] == "pending"
    assert ledger(site)[0][2]
    assert slow.sent < 50_000_000


@pytest.mark.parametrize("pause", [0.0, 0.05])
def test_only_the_status_of_an_endless_answer_is_read(open_site: OpenSite, pause: float) -> None:
    site = open_site(webhook_timeout_seconds=5)
    chunk = b"10000\r\n" + b"x" * 0x10000 + b"\r\n"
    with receiver(forever(chunk, start=OK + b"transfer-encoding: chunked\r\n\r\n"), pause=pause) as endless:
        put(site, endless.url)
        assert delivered(site).delivered == 1
    assert ledger(site) == [("delivered", 1, None)]
    assert endless.sent < 50_000_000  # what fits into the buffers of the connection


def test_a_receiver_that_does_not_read_is_a_failed_attempt(open_site: OpenSite) -> None:
    site = open_site(webhook_timeout_seconds=0.3)
    with receiver(lambda: iter(()), reads=False) as deaf:
        put(site, deaf.url, body="x" * 20_000_000)
        assert delivered(site).failed == 1
    assert "Timeout" in ledger(site)[0][2]


def test_a_receiver_that_does_not_shake_hands_is_a_failed_attempt(open_site: OpenSite) -> None:
    site = open_site(webhook_timeout_seconds=0.3)
    with receiver(lambda: iter(())) as mute:
        put(site, mute.url.replace("http:", "https:"))
        assert delivered(site).failed == 1
    assert "Timeout" in ledger(site)[0][2]


def test_a_certificate_is_verified_against_the_authorities_of_the_environment(
    open_site: OpenSite, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificates = make_certificates(tmp_path / "tls")
    answer = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
    with receiver(lambda: iter([answer]), tls=certificates.served()) as secure:
        for trusted in (False, True):
            if trusted:
                monkeypatch.setenv("SSL_CERT_FILE", str(certificates.authority))
            site = open_site()
            put(site, secure.url.replace("http:", "https:"))
            delivered(site)
            assert ledger(site)[0][0] == ("delivered" if trusted else "pending")
            assert trusted or "CERTIFICATE_VERIFY_FAILED" in ledger(site)[0][2]


def test_a_name_that_takes_long_to_resolve_is_a_failed_attempt(
    open_site: OpenSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = open_site(webhook_timeout_seconds=0.3)
    over, real = threading.Event(), socket.getaddrinfo

    def slow(host: Any, *more: Any, **how: Any) -> Any:
        if host in ("slow.example", b"slow.example"):
            over.wait()
        return real(host, *more, **how)

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    put(site, "http://slow.example/")
    assert delivered(site).failed == 1
    over.set()
    assert "Timeout" in ledger(site)[0][2]


@pytest.mark.parametrize("status", ["301 Moved", "302 Found", "307 Temporary Redirect", "308 Permanent Redirect"])
def test_a_redirect_is_not_followed(open_site: OpenSite, status: str) -> None:
    site = open_site()
    with WebhookReceiver() as elsewhere:
        head = f"HTTP/1.1 {status}\r\nlocation: {elsewhere.url}\r\ncontent-length: 0\r\n\r\n".encode()
        with receiver(lambda: iter([head])) as moved:
            put(site, moved.url)
            assert delivered(site).failed == 1
    assert elsewhere.calls == []
    assert ledger(site)[0][2] == f"the receiver answered {status[:3]}"


def test_two_hundred_bad_notifications_do_not_delay_a_good_one(
    open_site: OpenSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither in the choice of what to send, nor by the time that they take."""
    monkeypatch.setattr(deliver_module, "START_SECONDS", 0.6)
    site = open_site(webhook_timeout_seconds=0.3)
    with receiver(forever(b"x: y\r\n", start=OK), pause=0.05) as slow, WebhookReceiver() as good:
        for number in range(230):
            put(site, f"{slow.url}{number}", alarm=f"bad-{number}")
        put(site, good.url, alarm="good")
        done = delivered(site)
        attempts = [row[1] for row in ledger(site)]
    assert attempts[-1] == 1  # the good one
    assert 0 < sum(attempts) < 150  # the others are left to the next run
    assert done.pending + done.delivered == 231
    assert slow.calls < 150
