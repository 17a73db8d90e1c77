"""Whatever a receiver does, a call ends by its deadline, reads the status only, and delays nobody else."""

import itertools
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from brokers import make_certificates
from conftest import OpenSite
from outbox import ledger, put, tell

from meterhouse.alarms.delivery import deliver as deliver_module
from meterhouse.alarms.delivery.deliver import Delivered, deliver
from meterhouse.alarms.delivery.ledger import listed
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


def answers(*pieces: bytes) -> Callable[[], Iterator[bytes]]:
    return lambda: iter(pieces)


EMPTY = b"content-length: 0\r\n\r\n"
FAILURES = {
    "another protocol": (answers(b"SSH-2.0-OpenSSH_9.2\r\n"), "does not speak HTTP/1"),
    "HTTP/2 without being asked": (answers(b"\x00\x00\x12\x04\x00\x00\x00\x00\x00" + b"\0" * 18), "not speak HTTP/1"),
    "HTTP/0.9": (answers(b"<html>fine</html>\r\n\r\n"), "does not speak HTTP/1"),
    "a status of letters": (answers(b"HTTP/1.1 OK OK\r\n" + EMPTY), "does not speak HTTP/1"),
    "a status of four digits": (answers(b"HTTP/1.1 2000 OK\r\n" + EMPTY), "does not speak HTTP/1"),
    "a status of 0xx": (answers(b"HTTP/1.1 020 OK\r\n" + EMPTY), "does not speak HTTP/1"),
    "switching protocols": (answers(b"HTTP/1.1 101 Switching\r\nupgrade: x\r\n\r\n"), "the receiver answered 101"),
    "not modified": (answers(b"HTTP/1.1 304 Not Modified\r\n\r\n"), "the receiver answered 304"),
    "a proxy's demand": (answers(b"HTTP/1.1 407 Auth\r\n" + EMPTY), "the receiver answered 407"),
    "a teapot with a body": (answers(b"HTTP/1.1 418 Teapot\r\ncontent-length: 3\r\n\r\nno!"), "answered 418"),
    "a redirect to the metadata service": (
        answers(b"HTTP/1.1 307 Go\r\nlocation: http://169.254.169.254/latest/\r\n" + EMPTY),
        "the receiver answered 307",
    ),
    "headers of 70 kB": (answers(b"HTTP/1.1 200 OK\r\n", b"x: " + b"y" * 70_000), "more than 65,536 bytes"),
    "a null byte": (answers(b"HTTP/1.1 500 \0\r\n" + EMPTY), "the receiver answered 500"),
}


@pytest.mark.parametrize("kind", FAILURES)
def test_a_bad_answer_is_a_failed_attempt_with_a_reason(open_site: OpenSite, kind: str) -> None:
    site = open_site(webhook_timeout_seconds=5)
    answer, said = FAILURES[kind]
    with receiver(answer) as bad:
        put(site, bad.url)
        done = delivered(site)
    assert (done.failed, done.delivered) == (1, 0)
    assert said in ledger(site)[0][2]


ACCEPTED = {
    "a wrong length": answers(b"HTTP/1.1 200 OK\r\ncontent-length: 999999999999\r\n\r\nfine"),
    "a negative length": answers(b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\nfine"),
    "a length of letters": answers(b"HTTP/1.1 200 OK\r\ncontent-length: many\r\n\r\nfine"),
    "two lengths": answers(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nfine"),
    "a bomb of gzip": answers(b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\n\r\n" + b"\x1f\x8b\x08" + b"\0" * 3000),
    "a chunk that does not end": answers(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nFFFFFFFFFF\r\nfine"),
    "chunks that are none": answers(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nfine"),
    "no reason": answers(b"HTTP/1.1 204\r\n\r\n"),
    "HTTP/1.0": answers(b"HTTP/1.0 200 OK\r\n\r\nfine"),
    "bare line feeds": answers(b"HTTP/1.1 200 OK\ncontent-length: 0\n\n"),
    "odd header lines": answers(b"HTTP/1.1 200 OK\r\n: x\r\nno colon\r\n folded\r\nx:\x00\xff\r\n" + EMPTY),
    "a status before": answers(b"HTTP/1.1 103 Hints\r\nlink: x\r\n\r\n", b"HTTP/1.1 202 Accepted\r\n" + EMPTY),
    "byte by byte": lambda: (bytes([each]) for each in b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"),
}


@pytest.mark.parametrize("kind", ACCEPTED)
def test_a_status_is_enough_whatever_comes_with_it(open_site: OpenSite, kind: str) -> None:
    site = open_site(webhook_timeout_seconds=5)
    with receiver(ACCEPTED[kind]) as odd:
        put(site, odd.url)
        assert delivered(site).delivered == 1
    assert ledger(site) == [("delivered", 1, None)]


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    connection.close()


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 2", b"HTTP/1.1 200 OK\r\nx: y"])
@pytest.mark.parametrize("how", [socket.socket.close, reset])
def test_a_connection_that_ends_before_the_head_is_a_failed_attempt(
    site: Site, said: bytes, how: Callable[[socket.socket], None]
) -> None:
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        connection, _ = listener.accept()
        connection.recv(1 << 16)
        connection.sendall(said)
        how(connection)

    thread = threading.Thread(target=serve)
    thread.start()
    put(site, f"http://127.0.0.1:{listener.getsockname()[1]}/")
    assert delivered(site).failed == 1
    thread.join()
    listener.close()
    assert "Error" in ledger(site)[0][2]


def test_a_handshake_of_tls_that_never_ends_is_a_failed_attempt(open_site: OpenSite) -> None:
    """A record of TLS whose length is never reached, a byte at a time; and one that floods."""
    site = open_site(webhook_timeout_seconds=0.3)
    with (
        receiver(forever(b"\0", start=b"\x16\x03\x03\x40\x00"), pause=0.05) as slow,
        receiver(forever(b"\x16\x03\x03\x00\x04\x00\x00\x00\x00" * 500)) as flood,
    ):
        put(site, slow.url.replace("http:", "https:"), alarm="slow")
        put(site, flood.url.replace("http:", "https:"), alarm="flood")
        assert delivered(site).failed == 2
    assert flood.sent < 50_000_000
    assert "Timeout" in ledger(site)[0][2]


def test_a_receiver_that_answers_before_it_has_read_all_is_heard(open_site: OpenSite) -> None:
    site = open_site(webhook_timeout_seconds=5)
    with receiver(answers(b"HTTP/1.1 413 Too Large\r\n" + EMPTY)) as hasty:
        put(site, hasty.url, body="x" * 5_000_000)
        assert delivered(site).failed == 1
    assert ledger(site)[0][2] == "the receiver answered 413"


def test_what_a_receiver_says_is_kept_in_bounds_and_harmless(open_site: OpenSite) -> None:
    site = open_site(webhook_timeout_seconds=5)
    body = b"\x1b[2Jno\0 \xff" + b"z" * 5000
    with receiver(answers(b"HTTP/1.1 500 Oh\r\n\r\n" + body)) as talkative:
        put(site, talkative.url)
        delivered(site)
    (found,) = listed(site)
    said = found["tried"][0]["answer"]
    assert len(said) <= 400
    assert "\0" not in said
    assert said.endswith("zzz")


def test_one_slow_alarm_of_a_thousand_delays_no_other(open_site: OpenSite) -> None:
    """Neither if it has a receiver of its own, nor if one receiver is slow for one of its URLs."""
    site = open_site(webhook_timeout_seconds=1.0)
    slowly = threading.Event()

    class Sometimes(WebhookReceiver):
        def record(self, call: Any) -> bool:
            if call.path == "/slow":
                slowly.wait(PATIENCE)
            return super().record(call)

    with (
        receiver(forever(b"H"), pause=1.0) as byte_a_second,
        Sometimes() as shared,
    ):
        tell(site, byte_a_second.url, alarm="slow-1")
        tell(site, shared.url.replace("/alarm", "/slow"), alarm="slow-2")
        for number in range(200):
            tell(site, shared.url, alarm=f"good-{number}")
        done = delivered(site)
        slowly.set()
    assert (done.delivered, done.failed) == (200, 2)
    took = {each["alarm_id"]: each["tried"][0]["started_at"] for each in listed(site, limit=300)}
    ends = min(took["slow-1"], took["slow-2"]) + timedelta(seconds=1)
    assert sum(moment < ends for alarm, moment in took.items() if alarm.startswith("good")) > 100


def test_names_that_hang_delay_no_other(open_site: OpenSite, monkeypatch: pytest.MonkeyPatch) -> None:
    site = open_site(webhook_timeout_seconds=0.5)
    over, real = threading.Event(), socket.getaddrinfo

    def hangs(host: Any, *more: Any, **how: Any) -> Any:
        if str(host).endswith(".example"):
            over.wait()
        return real(host, *more, **how)

    monkeypatch.setattr(socket, "getaddrinfo", hangs)
    with WebhookReceiver() as good:
        for number in range(100):
            tell(site, f"http://{number}.example/", alarm=f"bad-{number}")
        tell(site, good.url.replace("127.0.0.1", "localhost"), alarm="good")
        assert delivered(site).delivered == 1
    over.set()


def test_addresses_that_do_not_answer_leave_time_for_those_that_do(
    open_site: OpenSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = open_site(webhook_timeout_seconds=3.0)
    full = socket.socket()  # its queue of connections is full, so that it does not answer
    full.bind(("127.0.0.9", 0))
    full.listen(0)
    port = full.getsockname()[1]
    waiting = [socket.socket() for _ in range(4)]
    for each in waiting:
        each.setblocking(False)
        each.connect_ex(("127.0.0.9", port))
    listener = socket.create_server(("127.0.0.1", port))

    def serve() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(1 << 16)
            connection.sendall(OK + EMPTY)

    real = socket.getaddrinfo
    places = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port)) for each in ("127.0.0.9", "127.0.0.1")]
    monkeypatch.setattr(
        socket, "getaddrinfo", lambda host, *more, **how: places if host == "two" else real(host, *more, **how)
    )
    thread = threading.Thread(target=serve)
    thread.start()
    put(site, f"http://two:{port}/")
    assert delivered(site).delivered == 1
    thread.join()
    for each in (*waiting, full, listener):
        each.close()
