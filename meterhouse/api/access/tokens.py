"""Identities by tokens of Keystone, kept for a while: a token that is revoked is refused when that time is over."""

import asyncio
import hashlib
import logging
import secrets
from dataclasses import replace
from datetime import UTC, datetime
from time import monotonic, time
from typing import Any, Final

from meterhouse.api.access.identity import ADMIN, Identity
from meterhouse.api.access.kept import Kept
from meterhouse.api.access.validator import Validator
from meterhouse.api.answers.faults import RETRY_SECONDS, Fault
from meterhouse.errors import MeterhouseError
from meterhouse.settings import Settings

KEPT: Final = 10_000
"""How many valid tokens are kept, and how many that are not."""

REFUSED_SECONDS: Final = 5.0
"""How long a token that is not valid is refused without asking again, at most."""

TOKEN_LENGTH: Final = 4_096
"""How many characters a token has at most: Fernet tokens have some 200, signed ones (JWS) some 700."""

LOG_SECONDS: Final = 10.0
"""How often the same fault of Keystone is logged, at most."""

log = logging.getLogger(__name__)


class Tokens:
    """The identities behind tokens.

    Each token is validated once at a time, however many requests wait for it. What is kept is found by a hash of the
    token: the tokens themselves are not kept.

    Args:
        settings: where Keystone is, the site's account, and how long identities are kept.

    Raises:
        MeterhouseError: METERHOUSE_KEYSTONE_CA_FILE has no certificates.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._validator = Validator(settings)
        self._known: Kept[bytes, Identity] = Kept(KEPT)
        self._refused: Kept[bytes, bool] = Kept(KEPT)
        self._running: dict[bytes, asyncio.Task[Identity | None]] = {}
        self._key = secrets.token_bytes(32)
        self._logged: dict[str, float] = {}

    async def identity(self, token: str | None) -> Identity:
        """Who asks with a token.

        Raises:
            Fault: 401, there is no token, or it is not valid; 503, Keystone cannot say.
        """
        if not token:
            raise self._unauthorized("no token came with the request. Send a token of Keystone as X-Auth-Token")
        if len(token) > TOKEN_LENGTH or not token.isascii() or not token.isprintable():
            raise self._unauthorized("the token is not one of Keystone's. Ask Keystone for a token")
        key = hashlib.blake2b(token.encode(), key=self._key, digest_size=24).digest()
        found = self._known.get(key)
        if found is None and not self._refused.get(key):
            task = self._running.get(key)
            if task is None:
                task = self._running[key] = asyncio.create_task(self._validated(key, token))
                task.add_done_callback(lambda ended: self._ended(key, ended))
            try:
                found = await asyncio.shield(task)  # others may wait for it, whose clients are still there
            except MeterhouseError as error:
                self._log(str(error))
                raise _unavailable() from None
        if found is None:
            raise self._unauthorized("the token is not valid, or no longer. Ask Keystone for a new one")
        return replace(found, token=token)

    async def reachable(self) -> bool:
        """Whether Keystone accepts the site's account; True, or an error.

        Raises:
            MeterhouseError: it does not, or does not answer.
        """
        await self._validator.log_in()
        return True

    async def close(self) -> None:
        """Close the connections to Keystone."""
        await self._validator.close()

    async def _validated(self, key: bytes, token: str) -> Identity | None:
        asked_at, wall = monotonic(), time()  # what is kept counts from here: Keystone answered some time after
        found = await self._validator.described(token)
        seconds = self._settings.api_token_seconds
        if found is None:
            self._refused.put(key, True, asked_at + min(seconds, REFUSED_SECONDS))
            return None
        identity = identity_of(found)
        ends = _expiry(found)
        if ends is not None and ends <= wall:
            return None
        self._known.put(key, identity, asked_at + (seconds if ends is None else min(seconds, ends - wall)))
        return identity

    def _ended(self, key: bytes, task: "asyncio.Task[Identity | None]") -> None:
        self._running.pop(key, None)
        if not task.cancelled():
            task.exception()  # nobody may be waiting any longer

    def _unauthorized(self, text: str) -> Fault:
        where = {"WWW-Authenticate": f'Keystone uri="{self._settings.keystone_url}"'}
        return Fault(401, f"Not authenticated: {text}", where)

    def _log(self, text: str) -> None:
        now = monotonic()
        if now - self._logged.get(text, -LOG_SECONDS) >= LOG_SECONDS:
            self._logged = {each: at for each, at in self._logged.items() if now - at < LOG_SECONDS} | {text: now}
            log.error("requests are answered 503, because tokens cannot be validated: %s", text)


def identity_of(described: dict[str, Any]) -> Identity:
    """Who a token is of, by Keystone's description of it.

    A token of a project has its roles there; one of the system counts if it is an administrator's, who then is the
    operator of the site. Any other (of a domain, without a scope) has no roles here. If Keystone names one project
    whose administrators are those of the cloud (`admin_project_name`), those of other projects are members.
    """
    user, project = _of(described, "user"), _of(described, "project")
    given = described.get("roles")
    names = (_text(each.get("name")) for each in given if isinstance(each, dict)) if isinstance(given, list) else ()
    roles = frozenset(name.lower() for name in names if name)
    if project:
        if described.get("is_admin_project") is False and ADMIN in roles:
            roles = roles - {ADMIN} | {"member"}
        return Identity(user, project, roles)
    if described.get("system") and ADMIN in roles:
        return Identity(user, "", roles, of_system=True)
    return Identity(user, "", frozenset())


def _of(described: dict[str, Any], kind: str) -> str:
    found = described.get(kind)
    return _text(found.get("id")) if isinstance(found, dict) else ""


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _expiry(described: dict[str, Any]) -> float | None:
    try:
        ends = datetime.fromisoformat(described["expires_at"])
        return (ends if ends.tzinfo else ends.replace(tzinfo=UTC)).timestamp()
    except (KeyError, TypeError, ValueError):
        return None


def _unavailable() -> Fault:
    text = f"Keystone does not say whether the token is valid. Try again in {RETRY_SECONDS} seconds"
    return Fault(503, text, {"Retry-After": str(RETRY_SECONDS)})
