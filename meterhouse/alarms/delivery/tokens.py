"""Tokens of Keystone for `trust+http(s)://` receivers: of a trust, or of an application credential.

A token is kept until a receiver answers 401. Then a new one is fetched, once. The secrets behind it are in no error.
"""

import asyncio
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote

from meterhouse import keystone
from meterhouse.alarms.definitions.actions import trust_of
from meterhouse.alarms.delivery.threads import in_thread
from meterhouse.errors import MeterhouseError
from meterhouse.settings import Settings, variable

KEPT: Final = 1_000
"""How many tokens a process keeps."""

_kept: "OrderedDict[Account, str]" = OrderedDict()


@dataclass(frozen=True)
class Account:
    """Whose token a receiver gets.

    Attributes:
        keystone_url: who gives it.
        trust_id: the trust; None for an application credential.
        credential_id: the application credential.
        secret: its secret.
    """

    keystone_url: str
    trust_id: str | None
    credential_id: str = ""
    secret: str = ""

    @classmethod
    def of(cls, settings: Settings, userinfo: str, origin: str) -> "Account":
        """The account that a URL's user part names, else that of the settings.

        Args:
            settings: the site's.
            userinfo: what the URL has before `@`: `TRUST_ID:delete`, or id and secret of an application credential.
            origin: `file` for an alarm of `alarms.yaml`, else `outside`: a tenant's receiver gets no token of the site.

        Raises:
            MeterhouseError: there is none.
        """
        url = settings.keystone_url
        if not url:
            raise MeterhouseError("a token needs Keystone", hint=f"Set {variable('keystone_url')}")
        if userinfo:
            if trust := trust_of(userinfo):
                return cls(url, trust)
            credential, _, secret = userinfo.partition(":")
            return cls(url, None, unquote(credential), unquote(secret))
        if origin == "file" and settings.webhook_credential_id:
            return cls(url, None, settings.webhook_credential_id, settings.webhook_credential_secret)
        hint = "Name a trust in the URL"
        if origin == "file":
            hint += f", or set {variable('webhook_credential_id')}"
        raise MeterhouseError("the URL names no trust", hint=hint)

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must not be shown."""
        return tuple(filter(None, (self.trust_id, self.secret)))


class Tokens:
    """The tokens of one run: an account logs in once, however many notifications wait for it.

    Args:
        settings: the site's.
        seconds: time limit of each part of a login.
    """

    def __init__(self, settings: Settings, seconds: float) -> None:
        self.settings, self.seconds = settings, seconds
        self._wanted: dict[Account, asyncio.Future[str]] = {}
        self._refused: dict[Account, str] = {}

    async def token(self, account: Account) -> str:
        """A token of the account.

        Raises:
            MeterhouseError: Keystone gives none.
        """
        if account in _kept:
            _kept.move_to_end(account)
            return _kept[account]
        if account not in self._wanted:
            self._wanted[account] = in_thread(lambda: _log_in(self.settings, account, self.seconds))
        token = await asyncio.shield(self._wanted[account])
        _kept[account] = token
        while len(_kept) > KEPT:
            _kept.popitem(last=False)
        return token

    def renew(self, account: Account, token: str) -> bool:
        """Forget a token that a receiver has refused; return whether a new one is worth a try.

        An account is renewed once in a run: a receiver that refuses every token must not make Meterhouse log in again
        and again.
        """
        if account not in self._refused:
            self._refused[account] = token
            if _kept.get(account) == token:
                del _kept[account]
            self._wanted.pop(account, None)
        return self._refused[account] == token


def _log_in(settings: Settings, account: Account, seconds: float) -> str:
    with keystone.session(settings, seconds) as session:
        auth: dict[str, Any]
        if account.trust_id is not None:
            auth, what = keystone.of_trust(settings, account.trust_id), "the trust of the URL"
        else:
            auth = keystone.of_credential(account.credential_id, account.secret)
            what = "the application credential of the webhook"
        return session.issued(auth, what)
