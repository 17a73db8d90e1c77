"""Addresses of what is polled: which host they lead to, and how an error shows them without secrets."""

from typing import Final
from urllib.parse import urljoin, urlsplit

from meterhouse.polling.polled import Permanent
from meterhouse.untrusted import printable

_PORTS: Final = {"http": 80, "https": 443}

Origin = tuple[str, str, int]
"""Scheme, host and port: with whom a request talks."""


def origin(url: str) -> Origin:
    """With whom a request for this URL talks.

    Raises:
        Permanent: it is not an HTTP URL, or has a password.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise Permanent(f"'{printable(url.partition('?')[0][:200])}' is not a URL") from None
    if parts.scheme not in _PORTS or not parts.hostname:
        raise Permanent(f"'{printable(url.partition('?')[0][:200])}' is not an HTTP URL", hint="Write http://HOST/…")
    if parts.username is not None or parts.password is not None:
        raise Permanent(
            "the URL has a user or a password",
            where=f"{parts.scheme}://{printable(parts.hostname)}",
            hint="Give them in polling_endpoints.yaml",
        )
    return parts.scheme, parts.hostname.lower(), port or _PORTS[parts.scheme]


def shown_url(url: str) -> str:
    """The URL for an error: without user, password, query and fragment, which may be secrets."""
    bare = url.partition("#")[0].partition("?")
    scheme, slashes, rest = bare[0].partition("://")
    host, slash, path = rest.partition("/")
    text = f"{scheme}{slashes}{host.rpartition('@')[2]}{slash}{path}" if slashes else bare[0]
    return printable(text[:300]) + ("?…" if bare[1] else "")


def joined(endpoint: str, path: str) -> str:
    """A path below an endpoint, as Ceilometer joins them: the endpoint is a folder, whether it ends with `/` or not."""
    return urljoin(endpoint if endpoint.endswith("/") else f"{endpoint}/", path)
