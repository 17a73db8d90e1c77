"""What pollsters ask with: connections, tokens, limits and commands, shared by the threads of a member."""

import threading
import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, TypeVar

from meterhouse.polling.asking import commands
from meterhouse.polling.asking.addresses import origin, shown_url
from meterhouse.polling.asking.authentication import Signer, basic, signer
from meterhouse.polling.asking.client import Answer, Client
from meterhouse.polling.asking.endpoints import Endpoint, Endpoints, load, secret
from meterhouse.polling.asking.rates import Rate
from meterhouse.polling.asking.time_limits import TimeLimits
from meterhouse.polling.asking.together import Together
from meterhouse.polling.asking.tokens import Credential, Tokens
from meterhouse.polling.polled import Permanent, PollError, Slot
from meterhouse.settings import Settings, variable

AGENT: Final = "meterhouse-poll"

AT_ONCE: Final = 32
"""How many endpoints one task asks at the same time at most."""

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


@dataclass
class _Ways:
    """What has been made for entries of polling_endpoints.yaml."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    clients: dict[tuple[str | None, str | None, str | None], Client] = field(default_factory=dict)
    rates: dict[Endpoint, Rate] = field(default_factory=dict)


class Asking:
    """Asks services and hosts. It is used by several threads at the same time.

    Args:
        settings: with Keystone's account, `poll_commands` and `poll_concurrency`.
        endpoints: how addresses are asked; None: as polling_endpoints.yaml of the settings' configuration folder says.
        clock: what time it is, UTC: the members' common time; None: this host's clock.

    Raises:
        DefinitionError: polling_endpoints.yaml cannot be used.
    """

    def __init__(
        self,
        settings: Settings,
        endpoints: Endpoints | None = None,
        clock: Callable[[], datetime] | None = None,
    ) -> None:
        self.settings = settings
        self.endpoints = endpoints if endpoints is not None else load(settings.config_dir)
        self.tokens = Tokens(settings, self.endpoints)
        self._clock = clock
        self._limits = TimeLimits()
        self._together = Together(max(AT_ONCE, settings.poll_concurrency))
        self._ways = _Ways()
        # Members that read their files again drop one that tasks may still use: it is closed when none of them does.
        self._close = weakref.finalize(self, _closed, self._together, self._limits, self._ways)

    def now(self) -> datetime:
        """What time it is, UTC: for samples."""
        return datetime.now(UTC) if self._clock is None else self._clock()

    def seconds(self, slot: Slot, limit: float) -> float:
        """How long a request for a slot may take: this limit, or less if the slot ends before.

        A slot of the past, which is made up from a service's history, has no end that matters.
        """
        left = (slot.end - self.now()).total_seconds()
        return limit if left <= 0 else max(0.1, min(limit, left))

    def get(
        self,
        url: str,
        *,
        seconds: float,
        headers: Mapping[str, str] | None = None,
        method: str = "GET",
        sign: Signer | None = None,
    ) -> Answer:
        """Ask a service.

        The token of an account goes to endpoints of Keystone's catalogue, and to those to which polling_endpoints.yaml
        gives one; to nobody else. A token that is refused is renewed once.

        Args:
            url: what to ask for; without user and password.
            seconds: time limit of everything.
            headers: to send besides.
            method: GET or HEAD.
            sign: what signs the request, in place of a token.

        Returns:
            The answer; its status is a success.

        Raises:
            PollError: there is no answer, or none that helps.
            Permanent: it cannot be asked before a person changes something.
        """
        way = self.endpoints.of(url)
        sent = {"User-Agent": AGENT, "Accept": "application/json, */*;q=0.5", **(headers or {})}
        self._wait(way, url, seconds)
        if sign is not None:
            url, sent = sign(url, sent)
        elif way.username is not None and way.password_file is not None:
            sent["Authorization"] = basic(way.username, secret(way.password_file))
        elif (account := self._account(way, url)) is not _NONE:
            credential = account if isinstance(account, Credential) else None
            token = self.tokens.token(credential)
            answer = self._send(way, url, {**sent, "X-Auth-Token": token}, seconds, method)
            if answer.status == 401:
                token = self.tokens.renewed(credential, token)
                answer = self._send(way, url, {**sent, "X-Auth-Token": token}, seconds, method)
            return _good(answer, "The account of the token may not ask for this")
        answer = self._send(way, url, sent, seconds, method)
        return _good(answer, "No token was sent: see `token` and `credential_id` of polling_endpoints.yaml")

    def signer(self, module: str, name: str, credentials: str) -> Signer:
        """What signs requests to an API that is not OpenStack's: see `authentication.signer`."""
        return signer(module, name, credentials, self.settings.poll_commands)

    def command(self, command: str, *, seconds: float) -> bytes:
        """What a command of this host writes.

        Args:
            command: for the shell.
            seconds: time limit.

        Raises:
            PollError: it fails, or exceeds a limit.
            Permanent: commands are not allowed.
        """
        if not self.settings.poll_commands:
            raise Permanent(
                "pollsters may not execute commands of the host", hint=f"Set {variable('poll_commands')}=true"
            )
        return commands.output(command, seconds)

    def each(self, function: Callable[[_Item], _Result], items: Iterable[_Item]) -> list[_Result | Exception]:
        """The function's results for the items, several at the same time, in their order; see `Together.each`."""
        return self._together.each(function, items, AT_ONCE)

    def close(self) -> None:
        """Close the connections, and end the threads; this also happens when nobody uses it any more."""
        self._close()

    def _account(self, way: Endpoint, url: str) -> object:
        """Whose token an address gets: a credential, None for the settings' account, or `_NONE`."""
        if way.credential_id is not None and way.credential_secret_file is not None:
            return Credential(way.credential_id, way.credential_secret_file)
        if way.token:
            return None
        if self.tokens.configured and origin(url) in self.tokens.catalogue().origins:
            return None
        return _NONE

    def _wait(self, way: Endpoint, url: str, seconds: float) -> None:
        if way.requests_per_second is None:
            return
        with self._ways.lock:
            rate = self._ways.rates.setdefault(way, Rate(way.requests_per_second))
        if rate.wait(seconds) is None:
            raise PollError(
                f"its limit of {way.requests_per_second:g} requests per second leaves no time for this one",
                where=shown_url(url),
            )

    def _send(self, way: Endpoint, url: str, headers: Mapping[str, str], seconds: float, method: str) -> Answer:
        key = (way.ca_file, way.certificate_file, way.key_file)
        with self._ways.lock:
            client = self._ways.clients.get(key)
            if client is None:
                client = self._ways.clients[key] = Client(self._limits, self.settings.poll_concurrency, *key)
        return client.send(url, headers, seconds, way.max_mib << 20, method)


_NONE: Final = object()


def _closed(together: Together, limits: TimeLimits, ways: _Ways) -> None:
    together.close()
    limits.close()
    for client in ways.clients.values():
        client.close()


def _good(answer: Answer, about_refusal: str) -> Answer:
    """The answer, if its status is a success; 300 is that of a list of versions."""
    status = answer.status
    if 200 <= status <= 300:
        return answer
    hint = {401: about_refusal, 403: about_refusal, 404: "Check the path"}.get(status, "")
    what = f"it answers with status {status}"
    raise PollError(what, where=shown_url(answer.url), hint=hint)
