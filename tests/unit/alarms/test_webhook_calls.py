"""What a call says and to whom: headers, signature, TLS, the address that is connected to, and no secret anywhere."""

import base64
import hashlib
import hmac
import json
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from brokers import Certificates, make_certificates
from builders import warehouse_rows
from conftest import OpenSite
from outbox import ledger, tell, wait_no_longer

from meterhouse.alarms.delivery import ledger as deliveries_ledger
from meterhouse.alarms.delivery import signature, tls
from meterhouse.alarms.delivery.deliver import deliver
from meterhouse.demo.receiver import WebhookReceiver
from meterhouse.settings import read_settings
from meterhouse.site import Site

SECRET = "a secret of the site"


class Raw:
    """A server that keeps the bytes of each call, and answers 200."""

    def __init__(self, context: ssl.SSLContext | None = None, answer: bytes = b"", host: str = "127.0.0.1") -> None:
        self.context, self.answer = context, answer or b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
        self.calls: list[bytes] = []
        self.certificates: list[Any] = []
        self.listener = socket.create_server((host, 0))
        self.port = self.listener.getsockname()[1]
        self.thread = threading.Thread(target=self._serve)
        self.thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            try:
                connection.settimeout(5)
                if self.context is not None:
                    connection = self.context.wrap_socket(connection, server_side=True)
                    self.certificates.append(connection.getpeercert())
                data = b""
                while b"\r\n\r\n" not in data:
                    data += connection.recv(1 << 16)
                head, _, body = data.partition(b"\r\n\r\n")
                length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
                while len(body) < length:
                    body += connection.recv(1 << 16)
                self.calls.append(head + b"\r\n\r\n" + body)
                connection.sendall(self.answer)
            except OSError:
                pass
            finally:
                connection.close()

    def headers(self, call: int = -1) -> dict[str, str]:
        lines = self.calls[call].partition(b"\r\n\r\n")[0].decode().split("\r\n")[1:]
        return dict(line.split(": ", 1) for line in lines)

    def close(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        self.thread.join()


@pytest.fixture
def raw() -> Iterator[Raw]:
    server = Raw()
    yield server
    server.close()


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("tls"))


def everything(site: Site) -> str:
    """All that can be seen of deliveries."""
    listed = json.dumps(deliveries_ledger.listed(site), default=str)
    return (
        listed
        + str(warehouse_rows(site, "SELECT * FROM deliveries"))
        + str(warehouse_rows(site, "SELECT * FROM delivery_attempts"))
    )


# -- the URL ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "resource",
    [
        "/v1/signal/arn%3Aopenstack%3Aheat%3A%3Ab1%3Astacks/s/1f/resources/up?Timestamp=2026-11-01T00%3A00%3A00Z&"
        "SignatureMethod=HmacSHA256&AWSAccessKeyId=ab&SignatureVersion=2&Signature=x%2Fy%2b%3D",
        "/a//b/../c/./%7e~;p=1?x=%20+&y&&=z?",
        "/?",
        "/a b",
    ],
)
def test_path_and_query_arrive_byte_for_byte(site: Site, raw: Raw, resource: str) -> None:
    tell(site, f"http://127.0.0.1:{raw.port}{resource}#fragment")
    assert deliver(site).delivered == 1
    assert raw.calls[0].split(b"\r\n")[0].decode() == f"POST {resource.replace(' ', '%20')} HTTP/1.1"
    assert raw.headers()["host"] == f"127.0.0.1:{raw.port}"


def test_a_url_without_a_path_has_one(site: Site, raw: Raw) -> None:
    tell(site, f"http://127.0.0.1:{raw.port}?x=1", f"http://127.0.0.1:{raw.port}")
    assert deliver(site).delivered == 2
    assert sorted(call.split(b" ")[1] for call in raw.calls) == [b"/", b"/?x=1"]


def test_the_body_is_that_of_aodh(site: Site, raw: Raw) -> None:
    tell(site, f"http://127.0.0.1:{raw.port}/")
    deliver(site)
    assert json.loads(raw.calls[0].partition(b"\r\n\r\n")[2]) == {
        "alarm_name": "name of alarm-1",
        "alarm_id": "alarm-1",
        "severity": "low",
        "previous": "ok",
        "current": "alarm",
        "reason": "because",
        "reason_data": {"type": "threshold"},
    }


def test_proxies_of_the_environment_are_not_used(site: Site, raw: Raw, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    tell(site, f"http://127.0.0.1:{raw.port}/")
    assert deliver(site).delivered == 1


# -- secrets ----------------------------------------------------------------------------------------------------


def test_user_and_password_are_sent_and_never_shown(site: Site, raw: Raw) -> None:
    tell(site, f"http://me:hunter%322@127.0.0.1:{raw.port}/")
    assert deliver(site).delivered == 1
    assert base64.b64decode(raw.headers()["authorization"].removeprefix("Basic ")) == b"me:hunter22"
    assert "hunter" not in everything(site)


def test_a_receiver_that_repeats_the_password_does_not_bring_it_into_the_ledger(site: Site) -> None:
    raw = Raw(answer=b"HTTP/1.1 403 No\r\ncontent-length: 20\r\n\r\nyou said hunter2 ...")
    try:
        tell(site, f"http://me:hunter2@127.0.0.1:{raw.port}/")
        assert deliver(site).failed == 1
    finally:
        raw.close()
    (found,) = deliveries_ledger.listed(site)
    assert [(each["status"], each["answer"]) for each in found["tried"]] == [(403, "you said *** ...")]
    assert "hunter2" not in everything(site)


# -- signature --------------------------------------------------------------------------------------------------


def test_a_call_is_signed_over_id_time_and_body(open_site: OpenSite, raw: Raw) -> None:
    site = open_site(webhook_secret=SECRET)
    tell(site, f"http://127.0.0.1:{raw.port}/")
    deliver(site)
    headers, body = raw.headers(), raw.calls[0].partition(b"\r\n\r\n")[2]
    assert headers["webhook-id"] == headers["idempotency-key"]
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    made = base64.b64encode(hmac.new(SECRET.encode(), signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{made}"
    assert signature.is_valid(SECRET, headers, body, time.time())
    assert not signature.is_valid(SECRET, headers, body + b" ", time.time())
    assert not signature.is_valid(SECRET + "x", headers, body, time.time())
    assert not signature.is_valid(SECRET, headers, body, time.time() + 301)


def test_a_call_for_a_tenant_is_signed_by_the_secret_of_the_project(open_site: OpenSite, raw: Raw) -> None:
    site = open_site(webhook_secret=SECRET, webhook_allow="127.0.0.0/8")
    tell(site, f"http://127.0.0.1:{raw.port}/", origin="outside", project="p1")
    assert deliver(site).delivered == 1
    headers, body = raw.headers(), raw.calls[0].partition(b"\r\n\r\n")[2]
    assert signature.is_valid(signature.of_project(SECRET, "p1"), headers, body, time.time())
    assert not signature.is_valid(SECRET, headers, body, time.time())
    assert not signature.is_valid(signature.of_project(SECRET, "p2"), headers, body, time.time())


def test_a_signature_is_that_of_the_standard() -> None:
    """The example of the specification of Standard Webhooks."""
    made = signature.headers(
        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        1614265330,
        b'{"test": 2432232314}',
    )
    assert made["webhook-signature"] == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


# -- TLS --------------------------------------------------------------------------------------------------------


def test_a_receiver_is_verified_by_the_authorities_of_the_setting(
    open_site: OpenSite, certificates: Certificates
) -> None:
    raw = Raw(certificates.served())
    try:
        for given, accepted in (
            ({}, False),
            ({"webhook_ca_file": certificates.authority}, True),
            ({"webhook_tls_verify": False}, True),
        ):
            site = open_site(**given)
            tell(site, f"https://localhost:{raw.port}/")
            assert deliver(site).delivered == accepted
            assert accepted or "CERTIFICATE_VERIFY_FAILED" in ledger(site)[0][2]
    finally:
        raw.close()


def test_a_certificate_of_another_name_is_refused(open_site: OpenSite, certificates: Certificates) -> None:
    raw = Raw(certificates.served(), host="127.0.0.2")
    try:
        site = open_site(webhook_ca_file=certificates.authority)
        tell(site, f"https://127.0.0.2:{raw.port}/")
        assert deliver(site).failed == 1
        assert "CERTIFICATE_VERIFY_FAILED" in ledger(site)[0][2]
    finally:
        raw.close()


@pytest.mark.parametrize(
    ("query", "verified"),
    [
        ("?aodh-alarm-ssl-verify=0", False),
        ("?ceilometer-alarm-ssl-verify=0", False),
        ("?aodh-alarm-ssl-verify=1&aodh-alarm-ssl-verify=0", False),
        ("?aodh-alarm-ssl-verify=0&ceilometer-alarm-ssl-verify=1", True),
        ("?aodh-alarm-ssl-verify=1", True),
        ("", True),
    ],
)
def test_a_url_decides_whether_its_receiver_is_verified(query: str, verified: bool) -> None:
    url = f"https://h/{query}"
    assert tls.verified(read_settings(), url, trusted=False) is verified
    assert tls.verified(read_settings(), url, trusted=True) is True


def test_an_override_in_the_url_is_followed_and_sent(open_site: OpenSite, certificates: Certificates) -> None:
    raw = Raw(certificates.served())
    try:
        site = open_site()
        tell(site, f"https://localhost:{raw.port}/a?aodh-alarm-ssl-verify=0")
        assert deliver(site).delivered == 1
        assert raw.calls[0].startswith(b"POST /a?aodh-alarm-ssl-verify=0 HTTP/1.1\r\n")
    finally:
        raw.close()


def test_the_client_certificate_is_shown_to_receivers_of_files_alarms_only(
    open_site: OpenSite, certificates: Certificates
) -> None:
    raw = Raw(certificates.served(ask=True))
    try:
        site = open_site(
            webhook_ca_file=certificates.authority,
            webhook_cert_file=certificates.client,
            webhook_key_file=certificates.client_key,
            webhook_allow="127.0.0.0/8,::1",
        )
        tell(site, f"https://127.0.0.1:{raw.port}/")
        assert deliver(site).delivered == 1
        tell(site, f"https://127.0.0.1:{raw.port}/", origin="outside", alarm="theirs")
        assert deliver(site).failed == 1
    finally:
        raw.close()
    assert len(raw.calls) == 1


def test_a_certificate_that_cannot_be_read_is_a_failed_attempt(open_site: OpenSite, tmp_path: Path) -> None:
    (tmp_path / "bad.pem").write_text("nothing")
    site = open_site(webhook_ca_file=tmp_path / "bad.pem")
    tell(site, "https://127.0.0.1:1/")
    assert deliver(site).failed == 1
    assert "no certificates can be read" in ledger(site)[0][2]


# -- addresses --------------------------------------------------------------------------------------------------


def resolving(monkeypatch: pytest.MonkeyPatch, **names: list[str]) -> list[str]:
    """Let names lead to addresses; return which were asked for."""
    real, asked = socket.getaddrinfo, []

    def found(host: Any, port: Any, *given: Any, **how: Any) -> Any:
        if host not in names:
            return real(host, port, *given, **how)
        asked.append(host)
        places = names[host]
        return [
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", (each, port, 0, 0))
            if ":" in each
            else (socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port))
            for each in places
        ]

    monkeypatch.setattr(socket, "getaddrinfo", found)
    return asked


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "::ffff:127.0.0.1"])
def test_a_tenants_name_that_leads_inside_is_not_called(
    site: Site, raw: Raw, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    resolving(monkeypatch, harmless=[address])
    tell(site, f"http://harmless:{raw.port}/", origin="outside")
    done = deliver(site)
    assert (done.dead, done.failed) == (1, 0)
    assert raw.calls == []
    assert f"refused: {address} is " in ledger(site)[0][2]


@pytest.mark.parametrize("host", ["127.1", "0x7f.1", "2130706433", "[::ffff:7f00:1]", "localhost"])
def test_an_address_inside_is_not_called_in_any_spelling(site: Site, raw: Raw, host: str) -> None:
    tell(site, f"http://{host}:{raw.port}/", origin="outside")
    assert deliver(site).dead == 1
    assert raw.calls == []


def test_a_metadata_address_is_not_called_for_an_alarm_of_a_file_either(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolving(monkeypatch, harmless=["169.254.169.254"])
    tell(site, "http://harmless/")
    assert deliver(site).dead == 1
    assert "the address of a metadata service" in ledger(site)[0][2]


def test_of_several_addresses_those_that_are_allowed_are_called(
    site: Site, raw: Raw, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = resolving(monkeypatch, many=["169.254.169.254", "127.0.0.3", "127.0.0.1"])
    tell(site, f"http://many:{raw.port}/")
    assert deliver(site).delivered == 1
    assert len(raw.calls) == 1
    assert asked == ["many"]  # once: what was checked is what is called
    (found,) = deliveries_ledger.listed(site)
    assert found["tried"][0]["address"] == f"127.0.0.1:{raw.port}"


def test_an_address_inside_that_the_setting_names_is_called(open_site: OpenSite, raw: Raw) -> None:
    site = open_site(webhook_allow="127.0.0.1")
    tell(site, f"http://127.0.0.1:{raw.port}/", origin="outside")
    assert deliver(site).delivered == 1


def test_a_tenant_gets_no_token_of_the_site(open_site: OpenSite, raw: Raw) -> None:
    site = open_site(
        webhook_allow="127.0.0.1",
        keystone_url="http://127.0.0.1:1/v3",
        keystone_username="u",
        keystone_password="p",
        webhook_credential_id="c",
        webhook_credential_secret="s",
    )
    tell(site, f"trust+http://127.0.0.1:{raw.port}/", origin="outside")
    assert deliver(site).failed == 1
    assert ledger(site)[0][2].startswith("the URL names no trust")
    assert raw.calls == []


# -- retries ----------------------------------------------------------------------------------------------------


def test_a_receiver_that_asks_for_peace_gets_it(site: Site) -> None:
    raw = Raw(answer=b"HTTP/1.1 503 Busy\r\nretry-after: 120\r\ncontent-length: 0\r\n\r\n")
    try:
        tell(site, f"http://127.0.0.1:{raw.port}/")
        deliver(site)
    finally:
        raw.close()
    (found,) = deliveries_ledger.listed(site)
    assert (found["next_attempt_at"] - found["tried"][0]["started_at"]).total_seconds() >= 119


def test_a_notification_that_is_too_old_is_dead_after_one_more_call(open_site: OpenSite) -> None:
    site = open_site(webhook_give_up_seconds=1)
    tell(site, "http://127.0.0.1:1/", "http://127.0.0.1:1/2")
    assert deliver(site).failed == 2
    with site.warehouse.begin() as connection:
        connection.exec_driver_sql("UPDATE deliveries SET queued_at = '2020-01-01 00:00:00.000000'")
    wait_no_longer(site)
    assert deliver(site).dead == 2


def test_every_attempt_is_in_the_ledger(any_warehouse: Site) -> None:
    with WebhookReceiver(fail_first=1) as receiver:
        tell(any_warehouse, receiver.url)
        deliver(any_warehouse)
        wait_no_longer(any_warehouse)
        deliver(any_warehouse)
    (found,) = deliveries_ledger.listed(any_warehouse, alarm="name of alarm-1", state="delivered")
    assert [(each["attempt"], each["status"], each["error"]) for each in found["tried"]] == [
        (1, 503, "the receiver answered 503"),
        (2, 200, None),
    ]
    assert all(each["seconds"] > 0 and each["address"].startswith("127.0.0.1:") for each in found["tried"])
