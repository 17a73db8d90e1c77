"""Asks what a definition says: an API of OpenStack, another API, or a command of the host; page by page."""

import socket
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from urllib.parse import urlsplit

from meterhouse.garbage import gc_disabled
from meterhouse.polling.asking import Asking
from meterhouse.polling.asking.addresses import joined, origin, shown_url
from meterhouse.polling.asking.authentication import Signer
from meterhouse.polling.asking.barbican import barbican_secret
from meterhouse.polling.expressions import ExpressionError, Text
from meterhouse.polling.kinds.dynamic.answers import entries_of, next_url_of
from meterhouse.polling.kinds.dynamic.definition import EXTRA_NAMES, Definition
from meterhouse.polling.kinds.dynamic.handlers import HEADERS, read
from meterhouse.polling.polled import Permanent

SAFE: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.,:/@+=% ")
"""Characters of an answer that a command may have: none by which a shell does something else."""


COMMANDS: Final = 100
"""Maximum number of commands, one after the other, whose output is one answer."""


@dataclass(frozen=True)
class Page:
    """An answer.

    Attributes:
        entries: what it has.
        at: when it came, UTC.
        next_url: of the page after it, absolute; None: there is none.
    """

    entries: list[Any]
    at: datetime
    next_url: str | None


class Gathering:
    """Asks by a definition, for one slot.

    Args:
        definition: what to ask.
        asking: what to ask with.
        seconds: returns how long a request may take, from the definition's limit.
        variables: of expressions.
    """

    def __init__(
        self,
        definition: Definition,
        asking: Asking,
        seconds: Callable[[float], float],
        variables: Mapping[str, Any],
    ) -> None:
        self._definition = definition
        self._asking = asking
        self._seconds = seconds
        self._variables = {**definition.variables, **variables}
        self._sign: Signer | None = None

    def url(self, endpoint: str) -> str:
        """The URL of the first page: the path below an endpoint; that of another API is the whole URL.

        Raises:
            Permanent: the path leads to another host, so that its answers decided who gets the token.
        """
        definition = self._definition
        assert definition.url_path is not None  # a definition has it, or a command
        if definition.api is not None:
            return definition.url_path.text
        path = _evaluated(definition.url_path, self._variables, "url_path")
        return _below(endpoint, path)

    def identity(self, endpoint: str) -> str:
        """What is asked: the URL, or the command."""
        command = self._definition.host_command
        return self.url(endpoint) if command is None else _evaluated(command, self._variables, "host_command")

    def pages(self, endpoint: str, url: str | None = None) -> Iterator[Page]:
        """The pages of an endpoint, each asked for when it is wanted.

        Args:
            endpoint: base of relative URLs.
            url: of the page to begin with; None: the first.

        Raises:
            PollError: there is no answer, or none that can be read.
        """
        definition = self._definition
        if definition.host_command is not None:
            yield self._of_command(definition.host_command)
            return
        if definition.api is not None:
            endpoint = self.url(endpoint)
        following: str | None = url or self.url(endpoint)
        while following is not None:
            page = self._page(endpoint, following)
            following = page.next_url
            yield page

    def _page(self, endpoint: str, url: str) -> Page:
        definition = self._definition
        answer = self._asking.get(
            url,
            seconds=self._seconds(definition.timeout),
            headers=definition.headers,
            method="HEAD" if definition.handlers == HEADERS else "GET",
            sign=self._signer(),
        )
        at, where = self._asking.now(), shown_url(url)
        if definition.handlers == HEADERS:
            return Page([{"id": self._variables.get("resource"), **answer.headers}], at, None)
        if answer.status == 204:
            return Page([], at, None)
        with gc_disabled():
            found = read(answer.body, answer.headers, definition.handlers, where)
        next_url = next_url_of(found, definition.next_url)
        absolute = _next(endpoint, next_url) if next_url is not None else None
        return Page(entries_of(found, definition.entries, where), at, absolute)

    def _of_command(self, command: Text) -> Page:
        text = _evaluated(command, self._variables, "host_command")
        if command.names & EXTRA_NAMES and text != _evaluated(command, _harmless(self._variables), "host_command"):
            raise Permanent("an answer has characters that the shell would obey; the command is not executed")
        definition, where = self._definition, "the output of the command"
        entries: list[Any] = []
        following: str | None = text
        executed: set[str] = set()
        while following is not None and following not in executed and len(executed) < COMMANDS:
            executed.add(following)
            body = self._asking.command(following, seconds=self._seconds(definition.timeout))
            found = read(body, {}, definition.handlers, where)
            entries += entries_of(found, definition.entries, where)
            following = _next_command(found, definition)
        return Page(entries, self._asking.now(), None)

    def _signer(self) -> Signer | None:
        api = self._definition.api
        if api is None:
            return None
        if self._sign is None:
            credentials = api.authentication_parameters or barbican_secret(
                self._asking, api.barbican_secret_id, self._seconds(self._definition.timeout)
            )
            self._sign = self._asking.signer(api.module, api.authentication_object, credentials)
        return self._sign


def this_host() -> str:
    """The name of this host: what commands tell of."""
    return socket.gethostname()


def _evaluated(text: Text, variables: Mapping[str, Any], key: str) -> str:
    try:
        return text(variables)
    except ExpressionError as error:
        raise Permanent(f"{key} cannot be evaluated: {error}") from None


def _next_command(output: Any, definition: Definition) -> str | None:
    """The command of the next page; None if this is the last.

    Raises:
        Permanent: the output, and not the definition, says which program is executed, or has characters that the shell
            would obey.
    """
    following = next_url_of(output, definition.next_url)
    if following is None:
        return None
    if following != next_url_of(_harmless(output), definition.next_url):
        raise Permanent("the output has characters that the shell would obey; the next command is not executed")
    fixed = next_url_of(_mapped(output, lambda text: ""), definition.next_url) or ""
    if fixed.split()[:1] != following.split()[:1]:
        raise Permanent("the output says which program is next; it is not executed")
    return following


def _below(endpoint: str, path: str) -> str:
    url = joined(endpoint, path)
    if origin(url) != origin(endpoint):
        raise Permanent(f"url_path leads to another host, {shown_url(url)}", where=shown_url(endpoint))
    return url


def _next(endpoint: str, url: str) -> str:
    """The absolute URL of a next page: of the same host, because it gets the token.

    Services behind a proxy often name themselves in links. Such a link is followed at the endpoint's own address, if
    its path is the same as far as it is the endpoint's.

    Raises:
        Permanent: it leads elsewhere.
    """
    absolute = joined(endpoint, url)
    if origin(absolute) == origin(endpoint):
        return absolute
    parts, own = urlsplit(absolute), urlsplit(endpoint)
    if parts.hostname == own.hostname and parts.path.startswith(own.path.rstrip("/") + "/"):
        return parts._replace(scheme=own.scheme, netloc=own.netloc).geturl()
    raise Permanent(
        f"the next page is at another host, {shown_url(absolute)}",
        where=shown_url(endpoint),
        hint="Let the service name itself as the catalogue does",
    )


def _harmless(value: Any) -> Any:
    """The same, without characters that a shell obeys, and without options in place of ids."""
    return _mapped(value, lambda text: "".join(each for each in text if each in SAFE).lstrip("-"))


def _mapped(value: Any, change: Callable[[str], str]) -> Any:
    """The same, with its texts changed."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {name: _mapped(each, change) for name, each in value.items()}
    if isinstance(value, list):
        return [_mapped(each, change) for each in value]
    return value
