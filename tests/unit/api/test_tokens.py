"""Who asks, by a token of a real Keystone: what is refused, what is kept, and for how long."""

import asyncio
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import httpx
import pytest
from api_server import client
from brokers import Proxy, make_certificates
from builders import land_points, point
from conftest import OpenSite
from services import Keystone
from tenants import PASSWORD, Tenant, log_in, role_id, tenant

from meterhouse.api.access import tokens, validator
from meterhouse.api.access.identity import Identity
from meterhouse.api.access.tokens import Tokens
from meterhouse.api.answers.faults import Fault
from meterhouse.doctor import findings_of
from meterhouse.settings import Settings, read_settings

pytestmark = pytest.mark.service

Asks = Callable[[Tokens], Coroutine[Any, Any, None]]


@pytest.fixture(scope="module")
def member(keystone: Keystone) -> Tenant:
    return tenant(keystone)


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The methods of the requests that Keystone got."""
    methods: list[str] = []
    real = httpx.AsyncClient.request

    async def counted(self: httpx.AsyncClient, method: str, *given: Any, **rest: Any) -> httpx.Response:
        methods.append(method)
        return await real(self, method, *given, **rest)

    monkeypatch.setattr(httpx.AsyncClient, "request", counted)
    return methods


def given(keystone: Keystone, **more: Any) -> Settings:
    return read_settings(**{**keystone.settings, "api_auth": "keystone", **more})


def asking(settings: Settings, work: Asks) -> None:
    async def run() -> None:
        asked = Tokens(settings)
        try:
            await work(asked)
        finally:
            await asked.close()

    asyncio.run(run())


async def status(asked: Tokens, token: str | None) -> int:
    try:
        await asked.identity(token)
    except Fault as fault:
        return fault.status
    return 200


def test_a_request_is_its_tokens_whatever_its_headers_say(open_site: OpenSite, keystone: Keystone) -> None:
    member, reader, boss = tenant(keystone), tenant(keystone, "reader"), tenant(keystone, "admin")
    site = open_site(**keystone.settings, api_auth="keystone")
    land_points(site, [point(1, meter="cpu", project=member.project_id), point(2, meter="memory", project="bank")])
    with client(site) as ask:

        def seen(token: str, **headers: str) -> list[str]:
            answer = ask.get("/v2/meters", headers={"X-Auth-Token": token, **headers})
            assert answer.status_code == 200, answer.text
            return [each.get("name", each.get("meter")) for each in answer.json()]

        assert seen(member.token) == ["cpu"]
        assert seen(reader.token) == []
        assert sorted(seen(boss.token)) == ["cpu", "memory"]
        assert seen(member.token, **{"X-Roles": "admin", "X-Project-Id": "bank", "X-User-Id": "u"}) == ["cpu"]
        for headers in ({}, {"X-Auth-Token": "garbage"}, {"X-Roles": "admin"}, {"X-Auth-Token": "\u00e9" * 9}):
            answer = ask.get("/v2/meters", headers={name: value.encode() for name, value in headers.items()})
            assert answer.status_code == 401
            assert answer.headers["WWW-Authenticate"] == f'Keystone uri="{keystone.url}"'
            assert answer.json()["error_message"]["faultcode"] == "Client"
            assert answer.json()["error_message"]["faultstring"].startswith("Not authenticated: ")


def test_what_a_token_may_depends_on_its_scope(open_site: OpenSite, keystone: Keystone) -> None:
    boss = tenant(keystone, "admin")
    for scope in ("system", "domains/default"):
        role = role_id(keystone, "admin")
        keystone.client.put(f"{keystone.url}/{scope}/users/{boss.user_id}/roles/{role}").raise_for_status()
    scopes = {
        "system": boss.another_token(system={"all": True}),
        "domain": boss.another_token(domain={"id": "default"}),
    }
    scopes |= {"none": log_in(keystone, boss.user_id), "credential": boss.credential_token()}
    rule = {"path": "/v2/meters", "method": "GET", "service": "metering"}
    scopes |= {"credential for some paths": boss.credential_token(access_rules=[rule])}
    site = open_site(**keystone.settings, api_auth="keystone")
    land_points(site, [point(1, meter="cpu", project="shop")])
    with client(site) as ask:
        answers = {name: ask.get("/v2/meters", headers={"X-Auth-Token": token}) for name, token in scopes.items()}
    assert {name: answer.status_code for name, answer in answers.items()} == {
        "system": 200,
        "domain": 403,
        "none": 403,
        "credential": 200,
        "credential for some paths": 401,
    }
    assert len(answers["system"].json()) == 1
    assert "of no project" in answers["domain"].text

    async def operator(asked: Tokens) -> None:
        assert (await asked.identity(scopes["system"])).is_operator
        assert not (await asked.identity(boss.token)).is_operator

    asking(given(keystone), operator)


def test_a_token_that_has_ended_is_refused(keystone: Keystone, member: Tenant) -> None:
    by_user, by_role, by_project, revoked = tenant(keystone), tenant(keystone), tenant(keystone), member.another_token()

    async def work(asked: Tokens) -> None:
        every = [by_user.token, by_role.token, by_project.token, revoked]
        assert [await status(asked, token) for token in every] == [200] * 4
        keystone.change("user", by_user.user_id, enabled=False)
        by_role.take("member")
        keystone.change("project", by_project.project_id, enabled=False)
        member.revoke(revoked)
        assert [await status(asked, token) for token in every] == [401] * 4
        assert await status(asked, member.token) == 200

    asking(given(keystone, api_token_seconds=0), work)


def test_an_identity_is_kept_for_its_seconds_and_never_past_its_tokens_end(
    keystone: Keystone, member: Tenant, sent: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [1000.0]
    monkeypatch.setattr(tokens, "monotonic", lambda: clock[0])
    revoked = member.another_token()

    async def work(asked: Tokens) -> None:
        asked._known._clock = asked._refused._clock = lambda: clock[0]
        assert await status(asked, revoked) == 200
        member.revoke(revoked)
        clock[0] += 29.9
        assert await status(asked, revoked) == 200
        assert len(sent) == 2  # the login, and one validation
        clock[0] += 0.2
        assert await status(asked, revoked) == 401
        assert await status(asked, revoked) == 401
        assert len(sent) == 3  # what is refused is kept too
        clock[0] += tokens.REFUSED_SECONDS
        assert await status(asked, revoked) == 401
        assert len(sent) == 4
        described = await asked._validator.described(member.token)
        assert described is not None
        ends = tokens._expiry(described)
        assert ends is not None
        monkeypatch.setattr(tokens, "time", lambda: ends - 10)
        assert await status(asked, member.token) == 200
        asked_until_now = len(sent)
        clock[0] += 9.9
        assert await status(asked, member.token) == 200
        assert len(sent) == asked_until_now
        monkeypatch.setattr(tokens, "time", lambda: ends + 1)  # Keystone's clock is behind
        clock[0] += 0.2
        assert await status(asked, member.token) == 401

    asking(given(keystone), work)


def test_a_token_that_expires_is_refused_at_once(keystone: Keystone, sent: list[str]) -> None:
    trustor = tenant(keystone)

    async def work(asked: Tokens) -> None:
        token = trustor.trusted_token(3.0)
        identity = await asked.identity(token)
        assert (identity.user_id, identity.project_id) == (trustor.user_id, trustor.project_id)
        deadline = time.monotonic() + 30
        while await status(asked, token) == 200:
            assert time.monotonic() < deadline
            assert sent == ["POST", "GET"]  # it is kept meanwhile
            await asyncio.sleep(0.1)

    asking(given(keystone, api_token_seconds=3600), work)


def test_keystone_is_believed_by_its_certificate(keystone: Keystone, member: Tenant, tmp_path: Path) -> None:
    certificates = make_certificates(tmp_path)
    answers = []

    async def work(asked: Tokens) -> None:
        answers.append(await status(asked, member.token))

    with Proxy(keystone.url, tls=certificates.served()) as proxy:
        asking(given(keystone, keystone_url=proxy.url), work)
        asking(given(keystone, keystone_url=proxy.url, keystone_ca_file=certificates.authority), work)
    assert answers == [503, 200]


def test_one_validation_at_a_time_and_no_more_kept_than_the_bound(
    keystone: Keystone, member: Tenant, sent: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tokens, "KEPT", 3)

    async def work(asked: Tokens) -> None:
        first = asyncio.create_task(asked.identity(member.token))
        others = [asyncio.create_task(asked.identity(member.token)) for _ in range(50)]
        await asyncio.sleep(0)
        first.cancel()  # whoever came first has gone; the others still get their answer
        found: list[Identity] = await asyncio.gather(*others)
        assert {each.project_id for each in found} == {member.project_id}
        assert sent == ["POST", "GET"]
        assert len(asked._running) == 0
        for number in range(10):
            assert await status(asked, f"gAAAAA{number}") == 401
        assert len(asked._refused) == 3
        assert await status(asked, member.token) == 200  # guesses displace no valid token
        assert sent == ["POST"] + ["GET"] * 11
        assert member.token not in repr(vars(asked._known))
        assert member.token not in repr(found)

    asking(given(keystone), work)


def test_our_own_token_is_renewed_once_and_a_refused_account_is_503(
    keystone: Keystone, member: Tenant, sent: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    async def renewed(asked: Tokens) -> None:
        assert await status(asked, member.token) == 200
        own = asked._validator._token
        assert own is not None
        member.revoke(own)
        assert await status(asked, member.token) == 200
        assert sent == ["POST", "GET", "GET", "POST", "GET"]

    asking(given(keystone, api_token_seconds=0), renewed)

    async def refused(asked: Tokens) -> None:
        assert await status(asked, member.token) == 503
        assert await status(asked, member.token) == 503

    sent.clear()
    asking(given(keystone, keystone_password="guessed"), refused)
    assert sent == ["POST"]  # no login after login, which could lock the account
    poor = tenant(keystone)
    name = keystone.client.get(f"{keystone.url}/users/{poor.user_id}").json()["user"]["name"]
    account = {"keystone_username": name, "keystone_password": "tenant-password", "keystone_project": name}
    asking(given(keystone, **account), refused)
    logged = [record.getMessage() for record in caplog.records]
    assert len(logged) == 2
    assert "401" in logged[0]
    assert "Give the account the role service or admin" in logged[1]
    assert not any(secret in text for text in logged for secret in ("guessed", member.token))


def test_what_an_account_needs_to_validate_tokens_and_the_doctor_looks_for_it(
    open_site: OpenSite, keystone: Keystone, member: Tenant
) -> None:
    accounts = {role: tenant(keystone, role) for role in ("service", "admin", "reader")}
    of_system = tenant(keystone, "member")
    where = f"{keystone.url}/system/users/{of_system.user_id}/roles/{role_id(keystone, 'reader')}"
    keystone.client.put(where).raise_for_status()

    def settings(whose: Tenant, project: bool = True) -> dict[str, str]:
        name = keystone.client.get(f"{keystone.url}/users/{whose.user_id}").json()["user"]["name"]
        account = {"keystone_username": name, "keystone_password": PASSWORD}
        return {**account, "keystone_project": name if project else "", "keystone_url": keystone.url}

    def validates(account: dict[str, str]) -> bool:
        answers = []

        async def work(asked: Tokens) -> None:
            answers.append(await status(asked, member.token))

        asking(read_settings(**account, api_auth="keystone"), work)
        (finding,) = findings_of(open_site(**account, api_auth="keystone"), "api")
        assert finding.state == ("ok" if answers == [200] else "warning"), finding
        return answers == [200]

    assert validates(settings(accounts["service"]))
    assert validates(settings(accounts["admin"]))
    assert validates(settings(of_system, project=False))
    assert not validates(settings(accounts["reader"]))


def test_while_keystone_is_away_only_kept_tokens_work(
    open_site: OpenSite, keystone: Keystone, member: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(validator, "SECONDS", 0.3)
    other = member.another_token()
    with Proxy(keystone.url) as proxy:
        site = open_site(**{**keystone.settings, "keystone_url": proxy.url}, api_auth="keystone")
        with client(site) as ask:

            def asked(token: str) -> httpx.Response:
                return ask.get("/v2/meters", headers={"X-Auth-Token": token})

            assert asked(member.token).status_code == 200
            for away in (proxy.refuse, proxy.stall):
                away()
                assert asked(member.token).status_code == 200
                answer = asked(other)
                assert answer.status_code == 503
                assert int(answer.headers["Retry-After"]) > 0
                assert answer.json()["error_message"]["faultcode"] == "Server"
                assert str(proxy.port) not in answer.text
            proxy.cut()
            proxy.pass_on()
            deadline = time.monotonic() + 30
            while asked(other).status_code != 200:
                assert time.monotonic() < deadline
