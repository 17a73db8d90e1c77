"""What happens to every request and answer: ids, proxies, sizes, rates, faults, the access log, slow clients."""

import asyncio
import contextlib
import io
import json
import re
import socket
import ssl
import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
from api_server import client, served
from brokers import make_certificates
from conftest import OpenSite
from fastapi import FastAPI, Request

from meterhouse.api.access.identity import Identity
from meterhouse.api.answers.faults import Fault
from meterhouse.api.app import create_app
from meterhouse.api.entry import connection
from meterhouse.api.entry.rates import Rates
from meterhouse.api.server import server
from meterhouse.api.watching.access_log import AccessLog
from meterhouse.errors import SettingsError, Unavailable
from meterhouse.site import Site

ID = re.compile(r"req-[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
GIVEN = "req-01234567-89ab-cdef-0123-456789abcdef"


def asked(app: FastAPI, path: str, method: str = "GET", remote: str = "127.0.0.1", **rest: Any) -> httpx.Response:
    """The answer of an application, without a socket."""

    async def ask() -> httpx.Response:
        transport = httpx.ASGITransport(app, raise_app_exceptions=False, client=(remote, 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://here:8777") as made:
            return await made.request(method, path, **rest)

    return asyncio.run(ask())


def fault_of(answer: httpx.Response) -> str:
    body = answer.json()["error_message"]
    assert body["faultcode"] == ("Client" if answer.status_code < 500 else "Server")
    assert body["debuginfo"] is None
    return str(body["faultstring"])


def raw(url: str, *parts: bytes, seconds: float = 30) -> bytes:
    """What a server answers to bytes until it closes the connection, which it may do before it has read them all."""
    where = urlsplit(url)
    with socket.create_connection((where.hostname, where.port), timeout=seconds) as made:
        sending = threading.Thread(target=lambda: send_all(made, parts), daemon=True)
        sending.start()
        answer = b""
        with contextlib.suppress(ConnectionResetError):
            while part := made.recv(65_536):
                answer += part
        sending.join(seconds)
    return answer


def send_all(to: socket.socket, parts: tuple[bytes, ...]) -> None:
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        for part in parts:
            to.sendall(part)


def test_each_answer_has_an_id_the_clients_if_it_is_well_formed(site: Site) -> None:
    with client(site) as ask:
        for path in ("/v2/meters", "/v2/nothing", "/v2/meters?unknown=1"):
            for given in ("", "req-1", GIVEN + "0", "x" * 9_000, f"{GIVEN}, {GIVEN}"):
                made = ask.get(path, headers={"X-Openstack-Request-Id": given}).headers["X-Openstack-Request-Id"]
                assert ID.fullmatch(made)
                assert made != GIVEN
            assert ask.get(path, headers={"x-openstack-request-id": GIVEN}).headers["X-Openstack-Request-Id"] == GIVEN


def test_what_nobody_foresaw_is_told_to_the_log_alone(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    app = create_app(site)

    async def fails(request: Request) -> None:
        request.state.identity = Identity("u", "p", frozenset({request.headers["role"]}))
        if request.headers["how"] == "away":
            raise Unavailable("no answer", where="db.internal")
        raise RuntimeError("secret reason")

    app.add_api_route("/fails", fails)
    answer = asked(app, "/fails", headers={"how": "", "role": "admin", "X-Openstack-Request-Id": GIVEN})
    assert answer.status_code == 500
    assert fault_of(answer) == f"The request failed. The operator finds the reason in the log under {GIVEN}"
    assert answer.headers["X-Openstack-Request-Id"] == GIVEN
    (record,) = caplog.records
    assert record.getMessage() == f"{GIVEN}: GET /fails failed: secret reason"
    assert record.exc_info is not None
    for role, seen in (("admin", True), ("member", False)):
        answer = asked(app, "/fails", headers={"how": "away", "role": role})
        assert answer.status_code == 503
        assert int(answer.headers["Retry-After"]) > 0
        assert ("db.internal" in fault_of(answer).lower()) is seen
    assert "db.internal" in caplog.text


def test_only_trusted_proxies_are_believed(open_site: OpenSite) -> None:
    app = create_app(open_site(api_proxies="10.0.0.0/8,fd00::/8", api_access_log=False))

    async def shown(request: Request) -> dict[str, str]:
        return {"url": str(request.base_url), "remote": request.client.host if request.client else ""}

    app.add_api_route("/shown", shown)
    said = {
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "evil.example, metering.example:8443",
        "X-Forwarded-Prefix": "/metering/",
        "X-Forwarded-For": "192.0.2.1, 198.51.100.7, 10.9.9.9",
    }
    believed = {"url": "https://metering.example:8443/metering/", "remote": "198.51.100.7"}
    for remote in ("10.1.2.3", "fd00::7"):
        assert asked(app, "/shown", remote=remote, headers=said).json() == believed
        assert asked(app, "/metering/shown", remote=remote, headers=said).json() == believed
        assert asked(app, "/shown", remote=remote).json() == {"url": "http://here:8777/", "remote": remote}
    for remote in ("127.0.0.1", "192.0.2.1", "unix"):
        ignored = {"url": "http://here:8777/", "remote": remote}
        assert asked(app, "/shown", remote=remote, headers=said).json() == ignored
    odd = {
        "X-Forwarded-Proto": "javascript",
        "X-Forwarded-Host": "a b/<script>",
        "X-Forwarded-Prefix": "//evil/../x",
        "X-Forwarded-For": "somebody",
    }
    ignored = {"url": "http://here:8777/", "remote": "10.1.2.3"}
    assert asked(app, "/shown", remote="10.1.2.3", headers=odd).json() == ignored


def test_a_prefix_is_in_links_and_may_be_in_paths(open_site: OpenSite) -> None:
    app = create_app(open_site(api_prefix="/cloud/metering/"))

    async def shown(request: Request) -> str:
        return str(request.url_for("shown"))

    app.add_api_route("/shown", shown, name="shown")
    for path in ("/shown", "/cloud/metering/shown"):
        assert asked(app, path).json() == "http://here:8777/cloud/metering/shown"
    for path in ("/", "/cloud/metering", "/cloud/metering/"):
        (version,) = asked(app, path).json()["versions"]["values"]
        assert version["links"][0]["href"] == "http://here:8777/cloud/metering/v2"
    assert asked(app, "/cloud/metering/v2/meters/").json() == []
    assert asked(app, "/cloud/meteringv2/meters").status_code == 404


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"api_prefix": "metering"}, "must be a path such as /metering"),
        ({"api_prefix": "/a/../b c"}, "must be a path such as /metering"),
        ({"api_proxies": "proxy.example"}, "'proxy.example' is not a network"),
        ({"api_metrics_from": "10.0.0.0/99"}, "'10.0.0.0/99' is not a network"),
        ({"api_cert_file": __file__}, "go together: set both or none"),
    ],
)
def test_settings_that_cannot_work_are_refused(open_site: OpenSite, given: dict[str, str], reason: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(reason)):
        open_site(**given)


def test_what_is_too_large_is_refused_however_it_is_sent(open_site: OpenSite) -> None:
    site = open_site(api_body_bytes=10_000)
    made = server(site, "127.0.0.1", 0)
    read: list[int] = []

    async def taken(request: Request) -> int:
        read.append(0)
        async for part in request.stream():
            read[-1] += len(part)
        return read[-1]

    made.config.app.add_api_route("/taken", taken, methods=["POST"])

    def endless(parts: int) -> Iterator[bytes]:
        for _ in range(parts):
            yield b"x" * 1_000

    with client(site, made=made) as ask:
        assert ask.post("/taken", content=b"x" * 10_000).json() == 10_000
        assert ask.post("/taken", content=endless(10)).json() == 10_000
        for content in (b"x" * 10_001, endless(2_000)):
            answer = ask.post("/taken", content=content)
            assert answer.status_code == 413
            assert fault_of(answer).startswith("The body is longer than 10,000 bytes. Send it in several requests")
            assert ID.fullmatch(answer.headers["X-Openstack-Request-Id"])
        assert max(read) <= 10_000
        where = str(ask.base_url)
        for length, of_url, of_header in (
            (15_000, (200, 400), (200,)),
            (20_000, (414,), (200,)),
            (200_000, (414,), (431,)),
            (3_000_000, (414,), (431,)),
        ):
            long, end = b"y" * length, b" HTTP/1.1\r\nHost: h\r\nConnection: close\r\n"
            for parts, statuses in (
                ((b"GET /v2/meters?x=", long, end, b"\r\n"), of_url),
                ((b"GET /v2/meters", end, b"X-Long: ", long, b"\r\n\r\n"), of_header),
            ):
                head, _, body = raw(where, *parts).partition(b"\r\n\r\n")
                assert int(head.split()[1]) in statuses, (length, head)
                assert b"x-openstack-request-id: req-" in head
                assert json.loads(body) == [] or json.loads(body)["error_message"]["faultstring"]
        assert ask.get("/v2/meters").json() == []


def test_a_project_may_make_so_many_requests_a_minute(open_site: OpenSite) -> None:
    with client(open_site(api_requests_per_minute=5)) as ask:

        def answers(project: str, number: int) -> list[int]:
            headers = {"X-Project-Id": project, "X-User-Id": "u"}
            return [ask.get("/v2/meters", headers=headers).status_code for _ in range(number)]

        assert answers("shop", 7) == [200] * 5 + [429] * 2
        assert answers("bank", 1) == [200]
        answer = ask.get("/v2/meters", headers={"X-Project-Id": "shop", "X-User-Id": "u"})
        assert 1 <= int(answer.headers["Retry-After"]) <= 12
        assert fault_of(answer).startswith("The project has made more than 5 requests in a minute. Try again in ")
    clock = [0.0]
    rates = Rates(60, lambda: clock[0])
    shop = Identity("u", "shop", frozenset())
    for second in range(200):
        clock[0] = second
        rates.check(shop)
    for _ in range(59):
        rates.check(shop)
    with pytest.raises(Fault):
        rates.check(shop)


def test_the_access_log_has_a_line_for_each_request_without_secrets(
    open_site: OpenSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = io.BytesIO()
    monkeypatch.setattr("meterhouse.api.app.AccessLog", lambda: AccessLog(written))
    with client(open_site(api_access_log=True)) as ask:
        who = {"X-Project-Id": "shop", "X-User-Id": "ann", "X-Openstack-Request-Id": GIVEN, "X-Auth-Token": "t0p"}
        length = len(ask.get("/v2/meters?limit=3&token=t0p", headers=who).content)
        ask.get("/v2/nothing%0A?x=%0A", headers=who)
        ask.post("/v2/meters", content=b"{}")
    lines = [json.loads(text) for text in written.getvalue().decode().splitlines()]
    assert [(each["method"], each["path"], each["status"]) for each in lines[:2]] == [
        ("GET", "/v2/meters", lines[0]["status"]),
        ("GET", "/v2/nothing\n", 404),
    ]
    first = lines[0]
    assert (first["request_id"], first["user"], first["project"], first["remote"]) == (
        GIVEN,
        "ann",
        "shop",
        "127.0.0.1",
    )
    assert (first["query"], first["bytes"]) == ("limit=3&token=***", length)
    assert 0 < first["seconds"] < 60
    assert first["time"].endswith("Z")
    assert len(lines) == 3
    assert b"t0p" not in written.getvalue()


def test_a_client_that_is_slow_or_talks_nonsense_is_let_go(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HEAD_SECONDS", 0.3)
    monkeypatch.setattr(connection, "BODY_SECONDS", 0.3)
    with served(site) as url:
        for slow in (b"", b"GET /v2/me", b"GET /v2/meters HTTP/1.1\r\nX-A: b\r\n", b"GET /v2/meters HTTP/1.1\r\nX-A: "):
            assert raw(url, slow).startswith(b"HTTP/1.1 408 "), slow
        whole = b"GET /v2/meters HTTP/1.1\r\nHost: h\r\n\r\n"
        answer = raw(url, whole + b"GET /v2")  # the second one is slow
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert b"HTTP/1.1 408 " in answer
        answer = raw(url, b"POST /v2/nothing HTTP/1.1\r\nHost: h\r\nContent-Length: 99\r\n\r\nabc")
        assert answer.startswith(b"HTTP/1.1 4")
        odd = b"GET http://[ HTTP/1.1\r\nHost: h\r\n\r\n"
        for nonsense in (b"\x16\x03\x01\x02\x00", b"GET / HTTP/9.9\r\n\r\n", odd):
            head, _, body = raw(url, nonsense).partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 400 "), nonsense
            assert json.loads(body)["error_message"]["faultcode"] == "Client"
            assert b"x-openstack-request-id: req-" in head
        assert httpx.get(f"{url}/v2/meters").json() == []


def test_a_running_answer_is_finished_when_the_server_stops(site: Site) -> None:
    made = server(site, "127.0.0.1", 0)
    begun = threading.Event()

    async def slow() -> str:
        begun.set()
        await asyncio.sleep(0.5)
        return "done"

    made.config.app.add_api_route("/slow", slow)
    answers: list[httpx.Response] = []
    with client(site, made=made) as ask:
        thread = threading.Thread(target=lambda: answers.append(ask.get("/slow")))
        thread.start()
        assert begun.wait(30)
        made.should_exit = True
        thread.join(30)
    assert answers[0].json() == "done"
    assert answers[0].headers["connection"] == "close"


def test_with_a_certificate_it_speaks_tls(open_site: OpenSite, tmp_path: Any) -> None:
    files = make_certificates(tmp_path)
    site = open_site(api_cert_file=files.server, api_key_file=files.server_key)
    with served(site) as url:
        assert url.startswith("https://")
        trusting = ssl.create_default_context(cafile=str(files.authority))
        assert httpx.get(f"{url}/v2/meters", verify=trusting).json() == []
        with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            httpx.get(f"{url}/v2/meters")
    (tmp_path / "broken.pem").write_text("no certificate")
    with pytest.raises(SettingsError, match="METERHOUSE_API_CERT_FILE, METERHOUSE_API_KEY_FILE"):
        server(open_site(api_cert_file=tmp_path / "broken.pem", api_key_file=files.server_key), "127.0.0.1", 0)
