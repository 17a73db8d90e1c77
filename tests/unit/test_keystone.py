"""The client of Keystone, against answers that a real one does not give on demand."""

from typing import Any

import httpx
import pytest

from meterhouse.errors import MeterhouseError, SettingsError, Unavailable
from meterhouse.keystone import Keystone
from meterhouse.settings import read_settings

GIVEN = {"keystone_url": "http://keystone:5000", "keystone_username": "u", "keystone_password": "hunter2"}
LOGGED_IN = httpx.Response(201, json={"token": {}}, headers={"X-Subject-Token": "t"})


def answering(answer: Any, **given: str) -> Keystone:
    """A session with a Keystone that answers logins, and whose other answers a function of the request makes."""

    def handle(request: httpx.Request) -> httpx.Response:
        return LOGGED_IN if request.method == "POST" else answer(request)

    client = httpx.Client(transport=httpx.MockTransport(handle))
    return Keystone(read_settings(**{**GIVEN, **given}), client)


def test_a_list_is_read_page_by_page_from_the_address_that_was_set() -> None:
    pages = {
        "": {"projects": [{"id": "1", "name": "a"}], "links": {"next": "http://elsewhere/v3/projects?marker=1"}},
        "1": {"projects": [{"id": "2", "name": "b"}, {"id": "3"}], "links": {"next": None}},
    }
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url))
        return httpx.Response(200, json=pages[request.url.params.get("marker", "")])

    assert [each["id"] for each in answering(answer).listed("/projects", "projects")] == ["1", "2", "3"]
    assert asked == ["http://keystone:5000/v3/projects", "http://keystone:5000/v3/projects?marker=1"]


def test_a_next_page_that_is_the_same_ends_the_list() -> None:
    page = {"projects": [{"id": "1", "name": "a"}], "links": {"next": "http://keystone/v3/projects"}}
    assert len(list(answering(lambda _: httpx.Response(200, json=page)).listed("/projects", "projects"))) == 1


def test_a_list_that_keystone_cuts_is_a_fault() -> None:
    session = answering(lambda _: httpx.Response(200, json={"domains": [], "projects": [], "truncated": True}))
    assert list(session.names()) == []
    assert session.faults[0].endswith("Keystone has listed a part only, because of its setting list_limit")


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (httpx.Response(200, text="<html>"), "the answer is not a JSON object: this is not Keystone"),
        (httpx.Response(200, json=[]), "the answer is not a JSON object: this is not Keystone"),
        (httpx.Response(200, json={"projects": 3}), "the answer has no list 'domains'"),
        (httpx.Response(200, json={"domains": ["x"]}), "the answer has no list 'domains'"),
        (httpx.Response(404, text="no"), "404 Not Found. Check METERHOUSE_KEYSTONE_URL: it ends with /v3"),
        (
            httpx.Response(403, json={"error": {"message": "You\nmay not"}}),
            "403 You may not. Give the account the role",
        ),
        (httpx.Response(302, headers={"location": "http://other"}), "Keystone refuses GET /domains: 302"),
    ],
)
def test_an_answer_that_is_not_a_list_is_one_error(answer: httpx.Response, reason: str) -> None:
    with pytest.raises(MeterhouseError) as bad:
        list(answering(lambda _: answer).names())
    assert reason in str(bad.value)
    assert "\n" not in str(bad.value)


def test_a_keystone_that_fails_is_unavailable() -> None:
    with pytest.raises(Unavailable, match="Keystone answers GET /domains with status 503"):
        list(answering(lambda _: httpx.Response(503)).names())


def test_users_that_cannot_be_listed_are_a_fault_and_the_rest_counts() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/v3/users" and request.url.params["domain_id"] == "ldap":
            return httpx.Response(401)
        lists = {
            "/v3/domains": {"domains": [{"id": "ldap", "name": "Staff"}, {"id": "default", "name": "Default"}]},
            "/v3/projects": {"projects": [{"id": "p1", "name": "Shop", "domain_id": "ldap"}, {"id": "p2", "name": ""}]},
            "/v3/users": {"users": [{"id": "u1", "name": "ann"}, {"id": 3, "name": "x"}]},
        }
        return httpx.Response(200, json=lists[request.url.path])

    session = answering(answer)
    found = [(each.kind, each.id, each.name, each.domain_name) for each in session.names()]
    assert found == [
        ("domain", "ldap", "Staff", None),
        ("domain", "default", "Default", None),
        ("project", "p1", "Shop", "Staff"),
        ("user", "u1", "ann", "Default"),
    ]
    assert len(session.faults) == 1
    assert "401" in session.faults[0]


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"keystone_url": "ftp://k"}, "must be http://host:port or https://host:port"),
        ({"keystone_url": "http://u:p@k/v3"}, "without user and password"),
        ({"keystone_url": "http://k"}, "METERHOUSE_KEYSTONE_URL goes together with METERHOUSE_KEYSTONE_USERNAME or"),
        ({"keystone_username": "u", "keystone_password": "p"}, "METERHOUSE_KEYSTONE_URL goes together with"),
        ({"keystone_username": "u"}, "go together: set both or none"),
        (
            {**GIVEN, "keystone_credential_id": "a", "keystone_credential_secret": "s"},
            "are two ways to log in",
        ),
    ],
)
def test_settings_that_cannot_work_are_refused(given: dict[str, str], reason: str) -> None:
    with pytest.raises(SettingsError) as bad:
        read_settings(**given)
    assert reason in str(bad.value)


@pytest.mark.parametrize("url", ["http://k:5000", "http://k:5000/", "http://k:5000/v3", "http://k:5000/v3/"])
def test_the_version_may_be_left_out_of_the_url(url: str) -> None:
    assert read_settings(**{**GIVEN, "keystone_url": url}).keystone_url == "http://k:5000/v3"
