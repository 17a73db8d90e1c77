"""Who asks: without authentication a project of the suite's own, or else whom a token of Keystone is of."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from meterhouse import keystone
from meterhouse.errors import MeterhouseError
from meterhouse.settings import Settings, variable
from meterhouse.verification import VERIFY
from meterhouse.verifying.asking import Api, text_of
from meterhouse.verifying.findings import Failed

_PROBE: Final = "/v2/capabilities"
_KEYSTONE: Final = re.compile(r"""uri=["']([^"']+)["']""", re.IGNORECASE)


@dataclass(frozen=True)
class Who:
    """Who asks.

    Attributes:
        project_id, user_id: whose the samples are that are sent.
        how: by what the API knows it.
    """

    project_id: str
    user_id: str
    how: str


def who_asks(api: Api, settings: Settings, token: str | None) -> Who:
    """Find out how the API wants to know who asks, and let it know.

    Args:
        api: the API.
        settings: with the account for Keystone, if there is one.
        token: of Keystone; None if there is none.

    Raises:
        Failed: it takes neither; or what it takes is missing.
    """
    if token is None:
        api.headers = {"X-User-Id": VERIFY, "X-Project-Id": VERIFY, "X-Roles": "member"}
        answer = api.send("GET", _PROBE)
        if answer.status_code == 200:
            return Who(VERIFY, VERIFY, "without authentication")
        if answer.status_code != 401:
            raise Failed(f"GET {_PROBE} was answered {answer.status_code}: {text_of(answer)}")
        if not settings.keystone_url:
            raise Failed(
                "the API wants a token of Keystone",
                f"Give --token or set OS_TOKEN, or set {variable('keystone_url')} and an account",
            )
        url = settings.keystone_url
    else:
        api.headers = {}
        challenge = _KEYSTONE.search(api.send("GET", _PROBE).headers.get("www-authenticate", ""))
        url = settings.keystone_url or (challenge[1] if challenge else "")
        if not url:
            return _without_keystone(api, token)
    return _by_token(api, replace(settings, keystone_url=url), token)


def _by_token(api: Api, settings: Settings, token: str | None) -> Who:
    """Let the API know who asks by a token; without one, log in for it."""

    def logged_in() -> Mapping[str, str]:
        try:
            with keystone.session(settings) as session:
                return {keystone.TOKEN: session.issued(keystone.login(settings), "the account")}
        except MeterhouseError as error:
            raise Failed(str(error), "Check the settings METERHOUSE_KEYSTONE_*") from None

    if token is None:
        api.renew = logged_in
        api.headers = logged_in()
        token = api.headers[keystone.TOKEN]
    else:
        api.headers = {keystone.TOKEN: token}
    try:
        with keystone.session(settings) as session:
            described = session.described(token)
    except MeterhouseError as error:
        raise Failed(str(error), "Get a new token, and check the settings METERHOUSE_KEYSTONE_*") from None
    project, user = described.get("project") or {}, described.get("user") or {}
    if not project.get("id"):
        raise Failed("the token is of no project", f"Get one of a project, or set {variable('keystone_project')}")
    answer = api.send("GET", _PROBE)
    if answer.status_code != 200:
        raise Failed(
            f"the API does not take the token: {answer.status_code}: {text_of(answer)}",
            "Check that the API asks the same Keystone",
        )
    return Who(str(project["id"]), str(user.get("id") or ""), f"as {user.get('name')} of project {project.get('name')}")


def _without_keystone(api: Api, token: str) -> Who:
    """The API has not asked for the token, so it is not used."""
    api.headers = {"X-User-Id": VERIFY, "X-Project-Id": VERIFY, "X-Roles": "member", keystone.TOKEN: token}
    answer = api.send("GET", _PROBE)
    if answer.status_code != 200:
        raise Failed(f"GET {_PROBE} was answered {answer.status_code}: {text_of(answer)}")
    return Who(VERIFY, VERIFY, "without authentication; the token is not used")
