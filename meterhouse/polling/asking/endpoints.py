"""Reads polling_endpoints.yaml: how each address is asked, and which of Keystone's endpoints are.

```yaml
catalogue:
  region: RegionOne
  interface: internal
  ignore_disabled_projects: true
endpoints:
  - url: https://cinder.example.org:8776/
    ca_file: /etc/ssl/certs/example.pem
    requests_per_second: 10
    credential_id: 1f2e3d
    credential_secret_file: /etc/meterhouse/cinder.secret
  - url: http://exporter.example.org:9100/
    username: prometheus
    password_file: /etc/meterhouse/exporter.password
```

Secrets are in files of their own, which are read when they are needed.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from meterhouse.errors import DefinitionError, near_misses, shown
from meterhouse.polling.asking.addresses import Origin, origin
from meterhouse.polling.polled import Permanent
from meterhouse.yaml_lines import read

FILE: Final = "polling_endpoints.yaml"

INTERFACES: Final = ("public", "internal", "admin")

_MAX_SECRET: Final = 64 << 10


@dataclass(frozen=True)
class Endpoint:
    """How addresses that begin with a URL are asked.

    Attributes:
        url: with which they begin; a path ends at a `/` of theirs.
        ca_file: certificates that verify the service's, in place of the system's.
        certificate_file, key_file: certificate that is shown to the service.
        requests_per_second: how many it gets at most from one member; None: any number.
        token: whether it gets a token of METERHOUSE_KEYSTONE_*'s account, though Keystone's catalogue does not name it.
        credential_id, credential_secret_file: application credential, whose token it gets.
        username, password_file: for basic authentication.
        max_mib: maximum size of an answer.
    """

    url: str
    ca_file: str | None = None
    certificate_file: str | None = None
    key_file: str | None = None
    requests_per_second: float | None = None
    token: bool = False
    credential_id: str | None = None
    credential_secret_file: str | None = None
    username: str | None = None
    password_file: str | None = None
    max_mib: int = 32

    @property
    def origin(self) -> Origin:
        """With whom requests to it talk."""
        return origin(self.url)

    def covers(self, path: str) -> bool:
        """Whether the path of a URL of the same origin is below this one's."""
        own = urlsplit(self.url).path.rstrip("/")
        return path == own or path.startswith(f"{own}/")


ANY: Final = Endpoint("")
"""How addresses are asked of which the file says nothing."""


class Endpoints:
    """What polling_endpoints.yaml says.

    Attributes:
        region: of Keystone's endpoints that are polled; None: each.
        interface: of those.
        ignore_disabled_projects: whether the discovery `tenant` leaves them out.
        entries: how addresses are asked.
    """

    def __init__(
        self,
        entries: tuple[Endpoint, ...] = (),
        region: str | None = None,
        interface: str = "public",
        ignore_disabled_projects: bool = False,
    ) -> None:
        self.entries = entries
        self.region = region
        self.interface = interface
        self.ignore_disabled_projects = ignore_disabled_projects
        self._by_origin: dict[Origin, list[Endpoint]] = {}
        for entry in sorted(entries, key=lambda each: -len(each.url)):
            self._by_origin.setdefault(entry.origin, []).append(entry)

    def of(self, url: str) -> Endpoint:
        """How a URL is asked: the longest entry with which it begins.

        Raises:
            Permanent: it is not an HTTP URL.
        """
        entries = self._by_origin.get(origin(url))
        if entries:
            path = urlsplit(url).path
            for entry in entries:
                if entry.covers(path):
                    return entry
        return ANY


def load(config_dir: Path | None) -> Endpoints:
    """Read the file of a configuration folder; without one, nothing is special.

    Raises:
        DefinitionError: the file cannot be used; the error has the line.
    """
    path = config_dir / FILE if config_dir is not None else None
    if path is None or not path.exists():
        return Endpoints()
    found = read(path)
    if found is None:
        return Endpoints()
    whole = _mapping(found, str(path), {"catalogue", "endpoints"})
    catalogue = _mapping(
        whole.get("catalogue") or {}, _at(whole, path), {"region", "interface", "ignore_disabled_projects"}
    )
    where = _at(catalogue, path)
    entries = whole.get("endpoints") or []
    if not isinstance(entries, list):
        raise DefinitionError("'endpoints' is not a list", where=str(path))
    interface = _text(catalogue, "interface", where) or "public"
    if interface not in INTERFACES:
        raise DefinitionError(f"the interface is one of {', '.join(INTERFACES)}", where=where)
    made = tuple(_endpoint(each, path) for each in entries)
    ignored = _flag(catalogue, "ignore_disabled_projects", where)
    return Endpoints(made, _text(catalogue, "region", where), interface, ignored)


def secret(path: str) -> str:
    """The secret that a file has, without the line feed at its end.

    Raises:
        Permanent: it cannot be read, or is empty.
    """
    try:
        with open(path, encoding="utf-8") as file:
            found = file.read(_MAX_SECRET).rstrip("\r\n")
    except OSError as error:
        raise Permanent(f"the secret cannot be read: {error.strerror}", where=path) from None
    except ValueError:
        raise Permanent("the secret is not UTF-8", where=path) from None
    if not found or not re.fullmatch(r"[^\x00-\x1f\x7f]+", found):
        raise Permanent("the file does not have a secret in one line", where=path)
    return found


_KEYS: Final = frozenset(Endpoint.__dataclass_fields__)
_PAIRS: Final = (
    ("credential_id", "credential_secret_file"),
    ("username", "password_file"),
    ("certificate_file", "key_file"),
)


def _endpoint(found: Any, path: Path) -> Endpoint:
    entry = _mapping(found, str(path), _KEYS)
    where = _at(entry, path)
    texts = {key: _text(entry, key, where) for key in _KEYS - {"requests_per_second", "token", "max_mib"}}
    url = texts.pop("url")
    if url is None:
        raise DefinitionError("the entry has no url", where=where)
    for one, other in _PAIRS:
        if (texts[one] is None) != (texts[other] is None):
            raise DefinitionError(f"{one} and {other} go together", where=where)
    rate = entry.get("requests_per_second")
    if rate is not None and (isinstance(rate, bool) or not isinstance(rate, int | float) or not 0.001 <= rate < 1e6):
        raise DefinitionError("requests_per_second is not a number from 0.001", where=where)
    size = entry.get("max_mib", 32)
    if isinstance(size, bool) or not isinstance(size, int) or not 1 <= size <= 4_096:
        raise DefinitionError("max_mib is not an integer from 1 to 4096", where=where)
    given = [texts["credential_id"] is not None, texts["username"] is not None, _flag(entry, "token", where)]
    if sum(given) > 1:
        raise DefinitionError("only one of token, credential_id and username can be used", where=where)
    made = Endpoint(url=url, **texts, requests_per_second=rate, token=given[2], max_mib=size)
    try:
        _ = made.origin
    except Permanent as error:
        raise DefinitionError(error.what, where=where) from None
    return made


def _mapping(found: Any, where: str, keys: frozenset[str] | set[str]) -> Mapping[str, Any]:
    if not isinstance(found, dict):
        raise DefinitionError(f"{shown(found)} is not a mapping", where=where)
    for key in found:
        if key not in keys:
            near = near_misses(str(key), sorted(keys))
            hint = f"Did you mean {near[0]}?" if near else f"Known: {', '.join(sorted(keys))}"
            line = getattr(found, "line", 0)
            raise DefinitionError(f"unknown key {shown(key)}", where=f"{where}:{line}" if line else where, hint=hint)
    return found


def _at(found: Mapping[str, Any], path: Path) -> str:
    line = getattr(found, "line", 0)
    return f"{path}:{line}" if line else str(path)


def _text(found: Mapping[str, Any], key: str, where: str) -> str | None:
    value = found.get(key)
    if value is None:
        return None
    if not isinstance(value, str) or not value:
        raise DefinitionError(f"{key} is not a text", where=where)
    return value


def _flag(found: Mapping[str, Any], key: str, where: str) -> bool:
    value = found.get(key, False)
    if not isinstance(value, bool):
        raise DefinitionError(f"{key} is neither true nor false", where=where)
    return value
