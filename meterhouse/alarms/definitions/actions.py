"""Actions of alarms: which URLs can be notified, and how they are shown.

The schemes are Aodh's. An action with `trust+` before its scheme is called with a token of Keystone: of the trust whose
id is the user in the URL, as Aodh stores it (`trust+https://TRUST_ID:delete@host/…`), or of the application credential
whose id and secret are there. User and password of a URL are never shown.
"""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, Final
from urllib.parse import SplitResult, unquote, urlsplit

from meterhouse.alarms.definitions import addresses
from meterhouse.errors import shown

MAX_URL: Final = 2_000
"""Maximum number of characters of a URL: PostgreSQL cannot index much longer ones."""

SCHEMES: Final = ("http", "https", "trust+http", "trust+https", "log", "test")

HOW: Final = "Write http://…, https://…, trust+https://… or log://"

_QUEUES: Final = "Notify a webhook instead, and let it send the message"
_REFUSED: Final = {
    "zaqar": _QUEUES,
    "trust+zaqar": _QUEUES,
    "trust+heat": "Notify the signal URL of a Heat resource with trust+https://… instead",
}
"""Scheme of Aodh → what to do instead."""

_HOST: Final = re.compile(r"[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]")
_SIGNAL: Final = re.compile(r"(/v1)?/signal/arn(:|%3A)|/resources/[^/?]+/signal(\?|\Z)", re.IGNORECASE)


def split(url: str) -> SplitResult:
    """The parts of a URL, without `trust+`.

    Raises:
        ValueError: it is not a URL.
    """
    return urlsplit(url.removeprefix("trust+"))


def refusal(url: object, origin: str = "file", allowed: addresses.Allowed = ()) -> tuple[str, str] | None:
    """Why an alarm cannot have this action, and what to do; None if it can.

    Args:
        url: the action.
        origin: `file` for an alarm of `alarms.yaml`, else `outside`.
        allowed: the networks of METERHOUSE_WEBHOOK_ALLOW.
    """
    if not isinstance(url, str):
        return f"{'a mapping or list' if isinstance(url, dict | list) else shown(url)} is not a URL", HOW
    from meterhouse.yaml_lines import is_plain  # it loads PyYAML, which who only lists alarms does not need

    if not is_plain(url):
        return f"{_named(url)} is not a URL", HOW
    if len(url) > MAX_URL:
        return f"the URL has {len(url):,} characters", f"Write at most {MAX_URL:,}"
    scheme = url.partition(":")[0].lower()
    if scheme in _REFUSED:
        return f"actions of the scheme {scheme} are not supported", _REFUSED[scheme]
    if scheme not in SCHEMES or ":" not in url:
        return f"{_named(url)} is not an action", HOW
    if scheme in ("log", "test"):
        return None
    return _unreachable(url, origin, allowed)


def _unreachable(url: str, origin: str, allowed: addresses.Allowed) -> tuple[str, str] | None:
    try:
        parts = split(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return f"{_named(url)} is not a URL", HOW
    if not host or port == 0 or "\\" in url or " " in url:
        return f"{_named(url)} has no host that can be called", HOW
    try:
        name = ascii_host(parts)
    except ValueError:
        return f"{_named(url)} has the host {shown(host)}, which is not a name or an address", HOW
    address = addresses.literal(name)
    if address is None:
        local = name.rstrip(".").lower()
        if origin == "file" or not (local == "localhost" or local.endswith(".localhost")):
            return None
        address = addresses.literal("127.0.0.1")
    why = address and addresses.refused(address, origin, allowed)
    if why is None:
        return None
    hint = "Name another host, or let the operator name the network in METERHOUSE_WEBHOOK_ALLOW"
    return f"{_named(url)} leads to {host}, {why}", hint


def with_lower_scheme(url: str) -> str:
    """A URL with its scheme in lower case, which means the same; all else is kept byte for byte."""
    scheme, colon, rest = url.partition(":")
    return f"{scheme.lower()}{colon}{rest}"


def ascii_host(parts: SplitResult) -> str:
    """The host of a URL in ASCII, an international name as DNS has it.

    Raises:
        ValueError: it has none.
    """
    host = parts.hostname or ""
    if not host.isascii():
        host = host.encode("idna").decode()
    if not _HOST.fullmatch(f"[{host}]" if ":" in host else host):
        raise ValueError("the URL has no host")
    return host


def shown_url(url: str) -> str:
    """A URL without user and password: as Aodh shows it."""
    return without_userinfo(url)[0]


def without_userinfo(url: str) -> tuple[str, str]:
    """A URL without user and password, and these as the URL has them; nothing else is changed."""
    start, slashes, rest = url.partition("://")
    if not slashes:
        return url, ""
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    userinfo, at, _ = authority.rpartition("@")
    return (f"{start}://{rest[len(userinfo) + 1 :]}", userinfo) if at else (url, "")


def receiver(url: str) -> str:
    """Whom a URL without user and password calls: scheme, host and port, in lower case."""
    scheme, slashes, rest = url.removeprefix("trust+").partition("://")
    return f"{scheme}{slashes}{re.split(r'[/?#]', rest, maxsplit=1)[0]}".lower()


def trust_of(userinfo: str) -> str | None:
    """The trust that the user part of a `trust+` URL names; None if it names an application credential, or nothing."""
    user, _, password = userinfo.partition(":")
    return unquote(user) if user and password in ("", "delete") else None


def is_signal(url: str) -> bool:
    """Whether a URL looks like one of Heat's, by which an alarm signals a resource, such as a scaling policy."""
    return _SIGNAL.search(url) is not None


LISTS: Final = ("alarm_actions", "ok_actions", "insufficient_data_actions")
"""The fields of a definition that have actions."""


def shown_definition(definition: Mapping[str, Any]) -> dict[str, Any]:
    """A definition, or a part of one, without user and password in its actions."""
    return {
        key: [shown_url(url) if isinstance(url, str) else url for url in value]
        if key in LISTS and isinstance(value, list | tuple)
        else value
        for key, value in definition.items()
    }


def shown_json(definition: str) -> str:
    """The same of a definition as JSON; a damaged one is left as it is if it has no URL with a user."""
    if "@" not in definition:
        return definition
    try:
        content = json.loads(definition)
    except (ValueError, RecursionError):
        return re.sub(r"(://)[^/?#\s\"]*@", r"\1", definition)
    return json.dumps(shown_definition(content), sort_keys=True) if isinstance(content, dict) else definition


def with_known_userinfo(urls: Iterable[str], known: Iterable[str]) -> tuple[str, ...]:
    """URLs as somebody has read and written them back, with the users and passwords, which are not shown."""
    before = {shown_url(url): url for url in known}
    return tuple(before.get(url, url) for url in urls)


def warnings(name: str, actions: Mapping[str, Iterable[str]]) -> list[str]:
    """What works, but hardly as it is meant.

    Args:
        name: of the alarm.
        actions: `ok_actions`, `alarm_actions` and `insufficient_data_actions`, each with its URLs.
    """
    return [
        f"alarm '{name}' signals a resource of Heat in its {key}: a scaling policy scales on any signal, whatever the "
        "state. Name it in alarm_actions alone, and let a second alarm scale back"
        for key in ("ok_actions", "insufficient_data_actions")
        if any(is_signal(url) for url in actions.get(key, ()))
    ]


def _named(url: str) -> str:
    """A URL for an error. Of one that is not well-formed, nothing before an `@` is shown: it may be a password."""
    scheme, colon, rest = shown_url(url).partition(":")
    return shown(f"{scheme}{colon}{re.sub(r'.*@', '***@', rest, flags=re.DOTALL)}" if colon else scheme)
