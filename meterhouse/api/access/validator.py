"""What Keystone says of a token ("Validate and show information for token"), asked as the site's own account.

Its answers mean: 200, the token is valid; 404, it is not (unknown, expired, revoked, the user or project disabled, a
role taken away); 401, our own token has ended; 403, our account may not validate tokens.
"""

import asyncio
from time import monotonic
from typing import Any, Final

import httpx

from meterhouse.errors import MeterhouseError, Unavailable
from meterhouse.keystone import SUBJECT, TOKEN, account, certificates, content, login, said
from meterhouse.settings import Settings, variable

SECONDS: Final = 5.0
"""Time limit of each part of a request to Keystone: for a connection, to send, for more of the answer."""

WHOLE_SECONDS: Final = 15.0
"""Time limit of a whole request to Keystone."""

CONNECTIONS: Final = 20
"""How many validations run at once, at most; others wait SECONDS for their turn."""

LOGIN_AGAIN_SECONDS: Final = 10.0
"""How long no further login is tried after Keystone has refused one: it may lock accounts that fail often."""


class Validator:
    """Asks Keystone about tokens. One for each event loop; `close` it at the end.

    Args:
        settings: where Keystone is, and the site's account.

    Raises:
        MeterhouseError: METERHOUSE_KEYSTONE_CA_FILE has no certificates.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        limits = httpx.Limits(max_connections=CONNECTIONS, max_keepalive_connections=CONNECTIONS)
        self._client = httpx.AsyncClient(
            timeout=SECONDS, verify=certificates(settings), follow_redirects=False, limits=limits
        )
        self._token: str | None = None
        self._logging_in = asyncio.Lock()
        self._refusal: MeterhouseError | None = None
        self._refused_at = 0.0
        self.logins = 0

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def described(self, token: str) -> dict[str, Any] | None:
        """Keystone's description of a token: `user`, `project`, `roles`, `expires_at`; None if it is not valid.

        Raises:
            Unavailable: Keystone does not answer, or not as it should.
            MeterhouseError: it refuses the site's account.
        """
        own = await self._own(None)
        answer = await self._validated(own, token)
        if answer.status_code == 401:
            answer = await self._validated(await self._own(own), token)
        if answer.status_code in (400, 404):
            return None
        if answer.status_code != 200:
            raise self._fault(answer, "to validate a token")
        found = content(answer, "token", self.settings.keystone_url)
        if not isinstance(found, dict):
            raise Unavailable("the answer to a validation has no token", where=self.settings.keystone_url)
        return found

    async def log_in(self) -> None:
        """Make sure that Keystone accepts the site's account: its token at hand, or a login.

        Raises:
            Unavailable: Keystone does not answer, or not as it should.
            MeterhouseError: it refuses the site's account.
        """
        own = await self._own(None)
        answer = await self._validated(own, own)
        if answer.status_code in (401, 404):
            await self._own(own)
        elif answer.status_code != 200:
            raise self._fault(answer, "to validate a token")

    async def _validated(self, own: str, token: str) -> httpx.Response:
        headers = {TOKEN: own, SUBJECT: token}
        return await self._send("GET", "/auth/tokens?nocatalog", headers=headers)

    async def _own(self, ended: str | None) -> str:
        """The site's own token: the one at hand, or a new one in place of one that has ended."""
        async with self._logging_in:
            if self._token is None or self._token == ended:
                self._token = await self._logged_in()
            return self._token

    async def _logged_in(self) -> str:
        if self._refusal is not None and monotonic() - self._refused_at < LOGIN_AGAIN_SECONDS:
            raise self._refusal
        self._refusal = None
        answer = await self._send("POST", "/auth/tokens?nocatalog", json={"auth": login(self.settings)})
        self.logins += 1
        token = answer.headers.get(SUBJECT)
        if answer.status_code != 201 or not token:
            fault = self._fault(answer, f"the account {account(self.settings)}")
            if answer.status_code < 500:
                self._refusal, self._refused_at = fault, monotonic()
            raise fault
        return str(token)

    async def _send(self, method: str, path: str, **rest: Any) -> httpx.Response:
        url = f"{self.settings.keystone_url}{path}"
        try:
            async with asyncio.timeout(WHOLE_SECONDS):
                return await self._client.request(method, url, **rest)
        except (httpx.HTTPError, httpx.InvalidURL, OSError) as error:
            text = " ".join(str(error).split()) or type(error).__name__
            raise Unavailable(
                f"Keystone does not answer: {text}", where=url, hint=f"Check {variable('keystone_url')}"
            ) from error

    def _fault(self, answer: httpx.Response, what: str) -> MeterhouseError:
        hints = {
            401: "Check the user, its domain and its password, or the application credential",
            403: "Give the account the role service or admin in its project, or reader on the system",
            404: f"Check {variable('keystone_url')}: it ends with /v3",
        }
        status = answer.status_code
        kind = Unavailable if status == 429 or status >= 500 else MeterhouseError
        where = self.settings.keystone_url
        return kind(f"Keystone refuses {what}: {status} {said(answer)}", where=where, hint=hints.get(status, ""))
