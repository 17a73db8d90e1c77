"""Keystone's API, version 3, as far as Meterhouse needs it: a token, and the lists of projects, users and domains.

See https://docs.openstack.org/api-ref/identity/v3/.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import parse_qsl, quote, urlsplit

from meterhouse.errors import MeterhouseError, Unavailable, shown
from meterhouse.extras import require
from meterhouse.settings import Settings, variable

if TYPE_CHECKING:
    import ssl

    import httpx

SECONDS: Final = 60.0
"""Time limit of each part of a request: to connect, to send, and to wait for more of the answer."""

MAX_PAGES: Final = 100_000

TOKEN: Final = "X-Auth-Token"
SUBJECT: Final = "X-Subject-Token"


class Named(NamedTuple):
    """A project, user or domain: what it is called, and the name of its domain (None for a domain)."""

    kind: str
    id: str
    name: str
    domain_name: str | None


class Refused(MeterhouseError):
    """Keystone answers, but not with what was asked for."""


@dataclass
class Keystone:
    """A session with Keystone. It logs in with the first request, and again if the token has ended.

    Attributes:
        settings: where Keystone is, and the account.
        faults: what could not be listed; the rest is there.
    """

    settings: Settings
    client: "httpx.Client"
    faults: list[str] = field(default_factory=list)
    _token: str | None = None

    def log_in(self) -> dict[str, Any]:
        """Get a token; return Keystone's description of it (roles, project, expiry).

        Raises:
            Unavailable: Keystone does not answer.
            Refused: it refuses the account.
        """
        self._token, found = self.granted(login(self.settings), f"the account {account(self.settings)}")
        return found

    def issued(self, auth: dict[str, Any], what: str) -> str:
        """A token by other means than the settings' account.

        Args:
            auth: the `auth` object of the login, such as `of_trust` or `of_credential` make it.
            what: it is, for errors; without secrets.

        Raises:
            Unavailable: Keystone does not answer.
            Refused: it refuses it.
        """
        return self.granted(auth, what)[0]

    def granted(self, auth: dict[str, Any], what: str) -> tuple[str, dict[str, Any]]:
        """A token by other means than the settings' account, as `issued`, and Keystone's description of it.

        The description has the roles, the expiry and, for a token of a project, the catalogue.
        """
        answer = self._send("POST", "/auth/tokens", body={"auth": auth})
        if answer.status_code != 201:
            raise self._refused(answer, what)
        token = answer.headers.get(SUBJECT)
        found = content(answer, "token", self.settings.keystone_url)
        if not token or not isinstance(found, dict):
            raise Refused("the answer to a login has no token", where=self.settings.keystone_url)
        return str(token), found

    def described(self, token: str) -> dict[str, Any]:
        """What Keystone says of somebody's token: `user`, `project` and `roles`.

        Raises:
            Unavailable: Keystone does not answer.
            Refused: the token is not valid.
        """
        answer = self._send("GET", "/auth/tokens", headers={TOKEN: token, SUBJECT: token})
        if answer.status_code != 200:
            raise self._refused(answer, "the user's token")
        found = content(answer, "token", self.settings.keystone_url)
        return found if isinstance(found, dict) else {}

    def create_trust(self, token: str, trust: dict[str, Any]) -> str:
        """Create a trust as the user whose token it is ("Create trust" of OS-TRUST); return its id.

        Raises:
            Unavailable: Keystone does not answer.
            Refused: it refuses the trust.
        """
        answer = self._send("POST", "/OS-TRUST/trusts", body={"trust": trust}, headers={TOKEN: token})
        if answer.status_code != 201:
            raise self._refused(answer, "a trust")
        found = content(answer, "trust", self.settings.keystone_url)
        if not isinstance(found, dict) or not isinstance(found.get("id"), str):
            raise Refused("the answer has no trust", where=self.settings.keystone_url)
        return str(found["id"])

    def delete_trust(self, trust_id: str, token: str | None = None) -> None:
        """Delete a trust. One that is not there is no error.

        Args:
            trust_id: the trust.
            token: of who gave it; None: the settings' account deletes it, if it is an administrator of the system.

        Raises:
            Unavailable: Keystone does not answer.
            Refused: it refuses.
        """
        if token is None:
            self.log_in()
        sent = {TOKEN: token or self._token or ""}
        answer = self._send("DELETE", f"/OS-TRUST/trusts/{quote(trust_id, safe='')}", headers=sent)
        if answer.status_code not in (204, 404):
            raise self._refused(answer, "to delete a trust")

    def listed(self, path: str, key: str, **wanted: str) -> Iterator[dict[str, Any]]:
        """Each entry of a list, page by page.

        Args:
            path: such as `/projects`.
            key: of the list in the answer, such as `projects`.
            wanted: filters of the query.

        Raises:
            Unavailable: Keystone does not answer.
            Refused: it refuses the request, or the answer is not such a list.
        """
        query = dict(wanted)
        for _ in range(MAX_PAGES):
            answer = self._get(path, query)
            where = f"{self.settings.keystone_url}{path}"
            found = content(answer, key, where)
            if not isinstance(found, list) or not all(isinstance(each, dict) for each in found):
                raise Refused(f"the answer has no list '{key}'", where=where)
            yield from found
            whole = answer.json()
            if whole.get("truncated"):
                self.faults.append(f"{where}: Keystone has listed a part only, because of its setting list_limit")
            links = whole.get("links")
            following = links.get("next") if isinstance(links, dict) else None
            if not isinstance(following, str):
                return
            # The host may be another, behind a proxy; the token goes to the one that was set.
            page = dict(parse_qsl(urlsplit(following).query, keep_blank_values=True))
            if page == query:
                return
            query = page
        raise Refused(f"the list has more than {MAX_PAGES:,} pages", where=self.settings.keystone_url)

    def names(self) -> Iterator[Named]:
        """All domains, projects and users. What cannot be listed is one of `faults`.

        Users are listed by domain, because a domain may have a directory (LDAP) of its own.

        Raises:
            Unavailable: Keystone does not answer.
            Refused: it refuses the account, or the list of domains or projects.
        """
        domains = {each["id"]: each["name"] for each in _texts(self.listed("/domains", "domains"))}
        for number, name in domains.items():
            yield Named("domain", number, name, None)
        for each in _texts(self.listed("/projects", "projects")):
            if each["id"] not in domains:  # a domain is a project too
                yield Named("project", each["id"], each["name"], domains.get(str(each.get("domain_id"))))
        for number, name in domains.items():
            try:
                for each in _texts(self.listed("/users", "users", domain_id=number)):
                    yield Named("user", each["id"], each["name"], name)
            except Refused as error:
                self.faults.append(str(error))

    def _get(self, path: str, query: dict[str, str]) -> "httpx.Response":
        if self._token is None:
            self.log_in()
        answer = self._send("GET", path, query)
        if answer.status_code == 401:  # the token has ended, or was revoked
            self.log_in()
            answer = self._send("GET", path, query)
        if answer.status_code != 200:
            raise self._refused(answer, f"GET {path}")
        return answer

    def _send(
        self,
        method: str,
        path: str,
        query: dict[str, str] | None = None,
        body: Any = None,
        headers: dict[str, str] | None = None,
    ) -> "httpx.Response":
        import httpx

        url = f"{self.settings.keystone_url}{path}"
        if headers is None:
            headers = {TOKEN: self._token} if self._token and method != "POST" else {}
        try:
            return self.client.request(method, url, params=query or None, json=body, headers=headers)
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            said = " ".join(str(error).split()) or type(error).__name__
            raise Unavailable(
                f"Keystone does not answer: {said}", where=url, hint=f"Check {variable('keystone_url')}"
            ) from error

    def _refused(self, answer: "httpx.Response", what: str) -> MeterhouseError:
        status = answer.status_code
        where = self.settings.keystone_url
        if status >= 500:
            return Unavailable(f"Keystone answers {what} with status {status}", where=where, hint="Look at its log")
        hints = {
            401: "Check the user, its domain and its password, or the application credential",
            403: "Give the account the role reader on the system, or admin",
            404: f"Check {variable('keystone_url')}: it ends with /v3",
        }
        return Refused(f"Keystone refuses {what}: {status} {said(answer)}", where=where, hint=hints.get(status, ""))


@contextmanager
def session(settings: Settings, seconds: float = SECONDS) -> Iterator[Keystone]:
    """A session with the Keystone that the settings name.

    Args:
        settings: where Keystone is, and the account.
        seconds: time limit of each part of a request.

    Raises:
        NotInstalled: the HTTP client is not installed.
        MeterhouseError: METERHOUSE_KEYSTONE_CA_FILE has no certificates.
    """
    require("httpx")
    import httpx

    with httpx.Client(timeout=seconds, verify=certificates(settings), follow_redirects=False) as client:
        yield Keystone(settings, client)


def certificates(settings: Settings) -> "ssl.SSLContext | bool":
    """What verifies Keystone's certificate, as httpx takes it: those of the settings, or its own.

    Raises:
        MeterhouseError: METERHOUSE_KEYSTONE_CA_FILE has no certificates.
    """
    import ssl

    if settings.keystone_ca_file is None:
        return True
    try:
        return ssl.create_default_context(cafile=str(settings.keystone_ca_file))
    except (OSError, ValueError) as error:
        raise MeterhouseError(f"no certificates can be read: {error}", where=variable("keystone_ca_file")) from None


def account(settings: Settings) -> str:
    """The account, as people call it."""
    if settings.keystone_credential_id:
        return f"of the application credential {shown(settings.keystone_credential_id)}"
    return f"{shown(settings.keystone_username)} of the domain {shown(settings.keystone_user_domain)}"


def login(settings: Settings) -> dict[str, Any]:
    """The `auth` object of a login ("Password authentication", "Authenticating with an Application Credential")."""
    if settings.keystone_credential_id:
        return of_credential(settings.keystone_credential_id, settings.keystone_credential_secret)
    user = {
        "name": settings.keystone_username,
        "domain": {"name": settings.keystone_user_domain},
        "password": settings.keystone_password,
    }
    scope: dict[str, Any] = {"system": {"all": True}}
    if settings.keystone_project:
        domain = {"name": settings.keystone_project_domain}
        scope = {"project": {"name": settings.keystone_project, "domain": domain}}
    return {"identity": {"methods": ["password"], "password": {"user": user}}, "scope": scope}


def of_trust(settings: Settings, trust_id: str) -> dict[str, Any]:
    """The `auth` object of a login by a trust ("Trusts", "Consuming trusts"): the settings' user is the trustee.

    Raises:
        MeterhouseError: the settings name no user with a password, who alone can be a trustee.
    """
    if not settings.keystone_username:
        raise MeterhouseError(
            "a trust can be used by a user with a password only", hint=f"Set {variable('keystone_username')}"
        )
    return {"identity": login(settings)["identity"], "scope": {"OS-TRUST:trust": {"id": trust_id}}}


def of_credential(credential_id: str, secret: str) -> dict[str, Any]:
    """The `auth` object of a login by an application credential."""
    credential = {"id": credential_id, "secret": secret}
    return {"identity": {"methods": ["application_credential"], "application_credential": credential}}


def content(answer: "httpx.Response", key: str, where: str) -> Any:
    """A field of the JSON object of an answer; None if it has none."""
    try:
        found = answer.json()
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise Refused("the answer is not a JSON object: this is not Keystone", where=where)
    return found.get(key)


def _texts(found: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The entries that have an id and a name."""
    for each in found:
        if isinstance(each.get("id"), str) and isinstance(each.get("name"), str) and each["id"] and each["name"]:
            yield each


def said(answer: "httpx.Response") -> str:
    """What Keystone says of an error, in one line."""
    try:
        said = answer.json()["error"]["message"]
    except (ValueError, KeyError, TypeError, RecursionError):
        said = answer.reason_phrase
    return " ".join(str(said).split())[:300]
