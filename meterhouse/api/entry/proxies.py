"""What a proxy says of the request that it passes on: scheme, host, prefix and client.

Only proxies of METERHOUSE_API_PROXIES are believed. Of a header with several values, the last one counts, which the
nearest proxy has set.
"""

import re
from collections.abc import Mapping
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

from meterhouse.api.entry.addresses import Networks, address, is_within
from meterhouse.settings import Settings, networks

_HOST: Final = re.compile(r"([A-Za-z0-9_.-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\])(:\d{1,5})?")
PREFIX: Final = re.compile(r"(/[A-Za-z0-9_.~-]+)+")
"""The form of a prefix: `/metering`, `/a/b`."""


class Proxies:
    """Gives each request the scheme, host, prefix and client address that its client used.

    The prefix is the root path of ASGI: routes are found with and without it, and links have it.

    Args:
        app: the next application.
        settings: METERHOUSE_API_PROXIES and METERHOUSE_API_PREFIX.
    """

    def __init__(self, app: ASGIApp, settings: Settings) -> None:
        self._app = app
        self._trusted = networks(settings.api_proxies)
        self._prefix = settings.api_prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "http":
            prefix = self._prefix
            client = scope.get("client")
            if self._trusted and client is not None and is_within(client[0], self._trusted):
                said = {name: value.decode("latin-1") for name, value in scope["headers"] if name in _HEADERS}
                _believe(scope, said, self._trusted)
                given = _last(said, b"x-forwarded-prefix").rstrip("/")
                prefix = given if PREFIX.fullmatch(given) else prefix
            if prefix:
                _mount(scope, prefix)
        await self._app(scope, receive, send)


_HEADERS: Final = frozenset({b"x-forwarded-proto", b"x-forwarded-host", b"x-forwarded-prefix", b"x-forwarded-for"})


def _believe(scope: Scope, said: Mapping[bytes, str], trusted: Networks) -> None:
    scheme = _last(said, b"x-forwarded-proto").lower()
    if scheme in ("http", "https"):
        scope["scheme"] = scheme
    host = _last(said, b"x-forwarded-host")
    if _HOST.fullmatch(host):
        others = [(name, value) for name, value in scope["headers"] if name != b"host"]
        scope["headers"] = [(b"host", host.encode()), *others]
    for text in reversed(said.get(b"x-forwarded-for", "").split(",")):
        if address(text.strip()) is None:
            break
        scope["client"] = (text.strip(), 0)
        if not is_within(text.strip(), trusted):
            break


def _mount(scope: Scope, prefix: str) -> None:
    """Let a request be one to an application below a prefix, whether the proxy has left the prefix in its path."""
    scope["root_path"] = prefix
    path = scope["path"]
    if path != prefix and not path.startswith(f"{prefix}/"):
        scope["path"] = prefix + path
        scope["raw_path"] = prefix.encode() + scope.get("raw_path", b"")


def _last(said: Mapping[bytes, str], name: bytes) -> str:
    return said.get(name, "").rpartition(",")[2].strip()
