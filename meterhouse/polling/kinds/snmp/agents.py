"""Asks SNMP agents, which `snmp://` URLs name."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from meterhouse.extras import require
from meterhouse.polling.polled import Permanent, PollError
from meterhouse.untrusted import printable

PORT: Final = 161
TRIES: Final = 2
OPTIONS: Final = frozenset({"community_file", "auth", "auth_file", "priv", "priv_file"})
AUTHENTICATION: Final = ("MD5", "SHA", "SHA-224", "SHA-256", "SHA-384", "SHA-512")
PRIVACY: Final = ("DES", "AES", "AES-192", "AES-256")

_HOST: Final = re.compile(r"[A-Za-z0-9_:][A-Za-z0-9_.:-]*")
_SECRETS: Final = frozenset({"community", "auth_passphrase", "privacy_passphrase"})
_MISSING: Final = frozenset({"NOSUCHINSTANCE", "NOSUCHOBJECT", "ENDOFMIBVIEW"})


@dataclass(frozen=True)
class Agent:
    """An agent, and as whom it is asked.

    Attributes:
        host, port: where it is.
        options: of a session of Net-SNMP; they have secrets.
    """

    host: str
    port: int
    options: tuple[tuple[str, str], ...]

    @property
    def url(self) -> str:
        """Its URL without secrets."""
        return f"snmp://{_bracketed(self.host)}:{self.port}"


class Row(str):
    """The end of an object's id, which tells the rows of a table apart: `4`, `10.0.0.1`."""


def shown(target: str) -> str:
    """The URL of a target without secrets: how tasks and errors name it.

    Raises:
        Permanent: it is not the URL of an agent.
    """
    parts = _split(target)
    return f"snmp://{_bracketed(str(parts.hostname))}:{parts.port or PORT}"


def agent(target: str) -> Agent:
    """The agent that a URL names: `snmp://COMMUNITY@HOST:PORT`, or with the options of version 3.

    Raises:
        Permanent: it is not such a URL, or a file that it names cannot be read.
    """
    parts = _split(target)
    where = shown(target)
    given = dict(parse_qsl(parts.query))
    if unknown := given.keys() - OPTIONS:
        known = ", ".join(sorted(OPTIONS))
        raise Permanent(f"'{printable(min(unknown))}' is not an option of SNMP; those are {known}", where=where)
    name = unquote(parts.username or "")
    if "auth" in given or "priv" in given:
        options = _of_version_3(name, given, where)
    else:
        community = _secret(given["community_file"], where) if "community_file" in given else name or "public"
        options = {"version": "2c", "community": community}
    return Agent(str(parts.hostname), parts.port or PORT, tuple(options.items()))


def _of_version_3(name: str, given: dict[str, str], where: str) -> dict[str, str]:
    """Of the User-based Security Model (RFC 3414)."""
    options = {"version": "3", "security_username": name, "security_level": "authNoPriv"}
    for key, kinds, protocol, phrase in (
        ("auth", AUTHENTICATION, "auth_protocol", "auth_passphrase"),
        ("priv", PRIVACY, "privacy_protocol", "privacy_passphrase"),
    ):
        if key == "priv" and key not in given:
            continue
        if given.get(key) not in kinds or f"{key}_file" not in given:
            raise Permanent(f"'{key}' is one of {', '.join(kinds)}, with the passphrase in {key}_file", where=where)
        options[protocol] = given[key]
        options[phrase] = _secret(given[f"{key}_file"], where)
    if "priv" in given:
        options["security_level"] = "authPriv"
    return options


def objects(of: Agent, oids: Sequence[str], seconds: float) -> list[str | None]:
    """The values of objects, in their order; None for one that the agent does not have.

    Raises:
        PollError: the agent does not answer.
    """
    found = _ask(of, "get", list(oids), seconds)
    return [None if one.type in _MISSING else str(one.value) for one in found]


def column(of: Agent, oid: str, seconds: float) -> dict[Row, str]:
    """The values of a column of a table, by their rows; empty if the agent does not have it.

    Raises:
        PollError: the agent does not answer.
    """
    below = f"{oid.strip('.')}."
    rows = {}
    for one in _ask(of, "bulk_walk", [oid], seconds):
        whole = f"{one.oid}.{one.index}".strip(".")
        if one.type not in _MISSING and whole.startswith(below):
            rows[Row(whole.removeprefix(below))] = str(one.value)
    return rows


def _ask(of: Agent, how: str, oids: list[str], seconds: float) -> Sequence[Any]:
    require("ezsnmp")
    from ezsnmp import Session
    from ezsnmp.exceptions import GenericError, NoSuchInstanceError, NoSuchNameError, NoSuchObjectError

    try:
        with Session(
            hostname=_bracketed(of.host),
            port_number=str(of.port),
            timeout=str(max(1, int(seconds / TRIES))),
            retries=str(TRIES - 1),
            print_oids_numerically=True,
            print_enums_numerically=True,
            print_timeticks_numerically=True,
            print_full_oids=True,
            **dict(of.options),
        ) as session:
            answer: Sequence[Any] = getattr(session, how)(oids)
            return answer
    except (NoSuchInstanceError, NoSuchNameError, NoSuchObjectError):
        return []
    except GenericError as error:
        said = printable(" ".join(str(error).split()))
        for key, given in of.options:  # which Net-SNMP may quote
            said = said.replace(given, "…") if key in _SECRETS and given else said
        raise PollError(f"SNMP: {said}", where=of.url) from None


def _split(target: str) -> SplitResult:
    try:
        parts = urlsplit(target)
        _ = parts.port  # which raises for what is none
    except ValueError:
        raise Permanent("a target is not a URL", hint="Write snmp://COMMUNITY@HOST") from None
    if parts.scheme != "snmp" or not _HOST.fullmatch(parts.hostname or ""):
        raise Permanent("a target is not the URL of an SNMP agent", hint="Write snmp://COMMUNITY@HOST")
    return parts


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _secret(path: str, where: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise Permanent(f"the file {printable(path)} cannot be read: {error}", where=where) from None
