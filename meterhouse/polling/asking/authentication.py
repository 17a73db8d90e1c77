"""Authentication at APIs that are not OpenStack's: a class of requests signs the request, with credentials of a text.

See "The non-OpenStack APIs dynamic pollsters" of Ceilometer's administrator guide: `module`, `authentication_object`,
and credentials that are separated by commas.
"""

import base64
from collections.abc import Callable, Mapping
from typing import Any, Final

from meterhouse.polling.polled import Permanent, PollError

Signer = Callable[[str, Mapping[str, str]], tuple[str, dict[str, str]]]
"""From a URL and headers to those that are sent."""

BASIC: Final = frozenset({("requests.auth", "HTTPBasicAuth"), ("requests", "HTTPBasicAuth")})
"""Modules and classes that need no module: basic authentication."""


def basic(username: str, password: str) -> str:
    """The header `Authorization` of basic authentication (RFC 7617)."""
    return "Basic " + base64.b64encode(f"{username}:{password}".encode()).decode()


def signer(module: str, name: str, credentials: str, is_allowed: bool) -> Signer:
    """What signs requests.

    Args:
        module, name: of the class.
        credentials: its arguments, separated by commas.
        is_allowed: whether Python modules that a definition names may be imported.

    Raises:
        Permanent: the class cannot be used, or not with these credentials. The text does not have them.
    """
    arguments = [each.strip() for each in credentials.split(",")]
    if (module, name) in BASIC:
        if len(arguments) != 2:
            raise Permanent("basic authentication needs two credentials: USER,PASSWORD")
        header = basic(*arguments)
        return lambda url, headers: (url, {**headers, "Authorization": header})
    if not is_allowed:
        raise Permanent(
            f"the pollster needs the Python module '{module}', and modules of definitions are not imported",
            hint="Set METERHOUSE_POLL_COMMANDS=true if you trust all who can write to the configuration folder",
        )
    try:
        from importlib import import_module

        import requests

        found: Any = getattr(import_module(module), name, None)
        is_one = isinstance(found, type) and issubclass(found, requests.auth.AuthBase)
    except ImportError as error:
        missing = error.name or module
        raise Permanent(f"the Python module '{missing}' is not installed", hint=f"Install {missing}") from None
    if not is_one:
        raise Permanent(f"'{module}' has no class '{name}' that authenticates requests (requests.auth.AuthBase)")
    try:
        authenticates = found(*arguments)
    except Exception as error:  # code of others; its text may have the credentials
        raise Permanent(f"'{name}' does not take these credentials: {type(error).__name__}") from None

    def sign(url: str, headers: Mapping[str, str]) -> tuple[str, dict[str, str]]:
        try:
            request = requests.Request("GET", url, headers=dict(headers), auth=authenticates).prepare()
        except Exception as error:  # code of others
            raise PollError(f"'{name}' cannot sign the request: {type(error).__name__}") from None
        return str(request.url), {str(each): str(value) for each, value in request.headers.items()}

    return sign
