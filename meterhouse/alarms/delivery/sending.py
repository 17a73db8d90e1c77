"""Sends notifications: what a call has in its headers, with which token and which TLS. Secrets are in no answer."""

import asyncio
import json
import logging
import time
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import replace
from urllib.parse import unquote

from meterhouse.alarms.delivery import digest, signature, tls
from meterhouse.alarms.delivery.attempts import Attempt, Claim
from meterhouse.alarms.delivery.call import Answer, Request, post
from meterhouse.alarms.delivery.resolving import Resolver
from meterhouse.alarms.delivery.tokens import Account, Tokens
from meterhouse.errors import MeterhouseError
from meterhouse.settings import Settings, networks
from meterhouse.stream.envelope import clean

log = logging.getLogger(__name__)


class Sender:
    """Sends the notifications of one run.

    Args:
        settings: the site's.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.seconds = settings.webhook_timeout_seconds
        self.resolver = Resolver(networks(settings.webhook_allow))
        self.tokens = Tokens(settings, self.seconds)

    async def send(self, claims: Sequence[Claim]) -> list[Attempt]:
        """Tell one URL its notifications, by one call; several of them are a digest."""
        began = time.monotonic()
        first, rows = claims[0], [each.row for each in claims]
        if first.row.url.startswith(("log:", "test:")):
            for row in rows:
                log.warning("alarm notification: %s", row.body)
            return [Attempt(each, Answer(None), each.at(began)) for each in claims]
        digest_id = digest.key([row.delivery_id for row in rows]) if len(rows) > 1 else None
        text = digest.body(rows) if digest_id else first.row.body
        answer = await self._call(first, digest_id or first.row.delivery_id, text.encode("utf-8", "replace"))
        answer = replace(answer, seconds=time.monotonic() - began)
        return [Attempt(each, answer, each.at(began), digest_id) for each in claims]

    async def _call(self, claim: Claim, key: str, body: bytes) -> Answer:
        row, trusted = claim.row, claim.row.url.startswith("trust+")
        url = row.url.removeprefix("trust+")
        deadline = time.monotonic() + self.seconds
        try:
            account = Account.of(self.settings, claim.userinfo, row.origin) if trusted else None
            context = None
            if url.startswith("https:"):
                context = tls.context(self.settings, url, origin=row.origin, trusted=trusted)
        except (MeterhouseError, ValueError) as error:
            return Answer(_line(error))
        secrets = account.secrets if account else (claim.userinfo, unquote(claim.userinfo.partition(":")[2]))
        headers = self._headers(row.origin, row.project_id, key, body)
        while True:
            token = None
            if account is not None:
                try:
                    async with asyncio.timeout_at(asyncio.get_running_loop().time() + deadline - time.monotonic()):
                        token = await self.tokens.token(account)
                except TimeoutError:
                    return Answer(f"Timeout: Keystone has not answered within {self.seconds:g} s")
                except Exception as error:
                    return Answer(_without(_line(error), secrets))
                headers["x-auth-token"] = token
            userinfo = "" if trusted else claim.userinfo
            answer = await post(
                Request(url, userinfo, headers, body, row.origin, context),
                self.resolver,
                max(deadline - time.monotonic(), 0.001),
                self.seconds,
            )
            refused = answer.status == 401 and time.monotonic() < deadline
            if refused and account is not None and token is not None and self.tokens.renew(account, token):
                continue
            return replace(
                answer,
                error=answer.error and _without(answer.error, (*secrets, token)),
                body=answer.body and _without(answer.body, (*secrets, token)),
            )

    def _headers(self, origin: str, project_id: str, key: str, body: bytes) -> dict[str, str]:
        made = {
            "content-type": "application/json",
            "x-openstack-request-id": f"req-{uuid.uuid4()}",
            "idempotency-key": key,
        }
        if secret := self.settings.webhook_secret:
            if origin != "file":
                secret = signature.of_project(secret, project_id)
            made |= signature.headers(secret, key, int(time.time()), body)
        return made


def _without(text: str, secrets: Iterable[str | None]) -> str:
    """A text in which a receiver or Keystone may have repeated a secret, without it."""
    for secret in secrets:
        if secret:
            for form in (secret, json.dumps(secret)[1:-1]):
                text = text.replace(form, "***")
    return text


def _line(error: Exception) -> str:
    return clean(" ".join(str(error).split()) or type(error).__name__)[:300]
