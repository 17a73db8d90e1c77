"""An administrator's session with Keystone's API: makes what servers and tests need there."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

from report import ServiceError

DEFAULT_DOMAIN = "default"


class Identity:
    """A session of an administrator, who has the project `admin`. What exists is left as it is.

    Raises:
        ServiceError: Keystone refuses the account. The methods raise it if Keystone refuses a request.
    """

    def __init__(self, url: str, username: str, password: str) -> None:
        self.url = url
        domain = {"id": DEFAULT_DOMAIN}
        identity = {
            "methods": ["password"],
            "password": {"user": {"name": username, "domain": domain, "password": password}},
        }
        scope = {"project": {"name": "admin", "domain": domain}}
        _, headers = _call("POST", f"{url}/auth/tokens", "", {"auth": {"identity": identity, "scope": scope}})
        self._token = headers["X-Subject-Token"]

    def made(self, kind: str, name: str, **fields: Any) -> str:
        """Return the id of the `project`, `user`, `role`, `domain` or `service` of this name; make it if it is missing.

        A user's or project's domain is in `fields`, as `domain_id`.
        """
        where = {key: value for key, value in fields.items() if key in ("domain_id", "type")}
        found = self._call("GET", f"/{kind}s?{urlencode({'name': name, **where})}")[f"{kind}s"]
        if not found:
            return str(self._call("POST", f"/{kind}s", {kind: {"name": name, **fields}})[kind]["id"])
        return str(found[0]["id"])

    def give(self, role: str, user: str, *, project: str = "", domain: str = "") -> None:
        """Give a user a role in a project or a domain; all of them are ids."""
        where = f"projects/{project}" if project else f"domains/{domain}"
        self._call("PUT", f"/{where}/users/{user}/roles/{role}")

    def list_service(self, kind: str, name: str, address: str) -> None:
        """Let the catalogue have a service at this address, whatever address it had."""
        service = self.made("service", name, type=kind)
        known = self._call("GET", f"/endpoints?service_id={quote(service)}")["endpoints"]
        for interface in ("admin", "internal", "public"):
            fields = {"service_id": service, "interface": interface, "region_id": "RegionOne", "url": address}
            endpoint = next((each for each in known if each["interface"] == interface), None)
            if endpoint is None:
                self._call("POST", "/endpoints", {"endpoint": fields})
            elif endpoint["url"] != address:
                self._call("PATCH", f"/endpoints/{endpoint['id']}", {"endpoint": {"url": address}})

    def _call(self, method: str, path: str, body: Any = None) -> Any:
        return _call(method, f"{self.url}{path}", self._token, body)[0]


def _call(method: str, url: str, token: str, body: Any = None) -> tuple[Any, Any]:
    """Make a request; return the JSON of the answer (None if it has no body), and its headers."""
    if urlsplit(url).scheme not in ("http", "https"):
        raise ServiceError(f"{url} is not a URL of HTTP")
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json", **({"X-Auth-Token": token} if token else {})}
    request = urllib.request.Request(url, data, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            content = answer.read()
            return (json.loads(content) if content else None), answer.headers
    except urllib.error.URLError as error:
        raise ServiceError(f"Keystone refuses {method} {urlsplit(url).path}: {error}") from error
