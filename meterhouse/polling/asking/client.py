"""Sends requests over HTTP, within limits: of time, of the answer's size, and of where redirects may lead.

It is urllib3 in threads, because that takes the least time of the processor among the clients with pools and TLS: a
request costs 0.3 ms, by httpx 0.7 ms and by requests 0.8 ms.
"""

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import (
    DecodeError,
    HTTPError,
    LocationParseError,
    NewConnectionError,
    ProtocolError,
    SSLError,
    TimeoutError,
)

from meterhouse.polling.asking.addresses import joined, origin, shown_url
from meterhouse.polling.asking.time_limits import TimeLimits, Watch
from meterhouse.polling.polled import Permanent, PollError
from meterhouse.untrusted import printable

MAX_REDIRECTS: Final = 5

HOSTS: Final = 256
"""With how many hosts connections are kept open; others are connected to each time."""

_CHUNK: Final = 1 << 20


@dataclass(frozen=True)
class Answer:
    """What a service answered.

    Attributes:
        url: that was asked for, after redirects.
        status: of HTTP.
        headers: with names in lower case.
        body: decompressed.
    """

    url: str
    status: int
    headers: Mapping[str, str]
    body: bytes


class _Waiting(threading.local):
    """The request that this thread waits for."""

    watch: Watch | None = None


_waiting = _Waiting()


class _Plain(HTTPConnection):
    def getresponse(self) -> urllib3.HTTPResponse:  # type: ignore[override]  # as urllib3's own
        if _waiting.watch is not None:
            _waiting.watch.connected(self.sock)
        return super().getresponse()


class _Secure(HTTPSConnection):
    def getresponse(self) -> urllib3.HTTPResponse:  # type: ignore[override]  # as urllib3's own
        if _waiting.watch is not None:
            _waiting.watch.connected(self.sock)
        return super().getresponse()


class _PlainPool(urllib3.HTTPConnectionPool):
    ConnectionCls = _Plain


class _SecurePool(urllib3.HTTPSConnectionPool):
    ConnectionCls = _Secure


class Client:
    """Connections to services that one set of certificates verifies. It is used by several threads at the same time.

    Args:
        limits: watches the requests.
        at_once: how many requests one host gets at the same time without a new connection for each.
        ca_file: certificates that verify the services'; None: the system's.
        certificate_file, key_file: with which this side shows who it is, if it does.

    Raises:
        Permanent: there are no certificates in the files.
    """

    def __init__(
        self,
        limits: TimeLimits,
        at_once: int,
        ca_file: str | None = None,
        certificate_file: str | None = None,
        key_file: str | None = None,
    ) -> None:
        import ssl

        self._limits = limits
        try:
            context = ssl.create_default_context(cafile=ca_file)
            if certificate_file is not None:
                context.load_cert_chain(certificate_file, key_file)
        except (OSError, ValueError) as error:
            named = ", ".join(each for each in (ca_file, certificate_file, key_file) if each)
            raise Permanent(f"no certificates can be read: {error}", where=named) from None
        self._pools = urllib3.PoolManager(num_pools=HOSTS, maxsize=at_once, retries=False, ssl_context=context)
        self._pools.pool_classes_by_scheme = {"http": _PlainPool, "https": _SecurePool}

    def send(
        self,
        url: str,
        headers: Mapping[str, str],
        seconds: float,
        max_bytes: int,
        method: str = "GET",
        body: bytes | None = None,
    ) -> Answer:
        """Send a request, and those that redirects to the same host and port ask for.

        Args:
            url: of HTTP or HTTPS, without a password.
            headers: to send.
            seconds: time limit of everything.
            max_bytes: maximum size of the answer, decompressed.
            method: of HTTP.
            body: to send.

        Raises:
            PollError: there is no answer in time, or it exceeds a limit.
            Permanent: the URL cannot be used, or leads to another host.
        """
        first = origin(url)
        watch = self._limits.watch(seconds)
        _waiting.watch = watch
        try:
            for _ in range(MAX_REDIRECTS + 1):
                answer, goes_to = self._once(url, headers, seconds, max_bytes, method, body, watch)
                if goes_to is None:
                    return answer
                following = joined(url, goes_to) if goes_to.startswith("?") else _absolute(url, goes_to)
                if origin(following) != first:
                    raise Permanent(
                        f"it redirects to another host, {shown_url(following)}",
                        where=shown_url(url),
                        hint="If that is right, poll it there",
                    )
                url = following
            raise Permanent(f"it redirects more than {MAX_REDIRECTS} times", where=shown_url(url))
        finally:
            watch.connected(None)
            _waiting.watch = None

    def close(self) -> None:
        """Close the connections."""
        self._pools.clear()

    def _once(
        self,
        url: str,
        headers: Mapping[str, str],
        seconds: float,
        max_bytes: int,
        method: str,
        body: bytes | None,
        watch: Watch,
    ) -> tuple[Answer, str | None]:
        try:
            try:
                answered = self._received(url, headers, seconds, max_bytes, method, body)
            except ProtocolError as error:
                # The service closed a connection that was kept open just when it was used again.
                if watch.over or not isinstance(error.args[-1], ConnectionError) or method not in ("GET", "HEAD"):
                    raise
                answered = self._received(url, headers, seconds, max_bytes, method, body)
        except LocationParseError:
            raise Permanent("this is not a URL", where=shown_url(url)) from None
        except (HTTPError, OSError, ValueError) as error:  # ValueError: a header that cannot be sent
            if watch.over or (isinstance(error, TimeoutError) and not isinstance(error, NewConnectionError)):
                raise PollError(f"there was no whole answer within {seconds:.3g} s", where=shown_url(url)) from None
            raise PollError(_said(error), where=shown_url(url)) from None
        if watch.over:  # an answer without a length seems to end when its connection is shut
            raise PollError(f"there was no whole answer within {seconds:.3g} s", where=shown_url(url))
        return answered

    def _received(
        self, url: str, headers: Mapping[str, str], seconds: float, max_bytes: int, method: str, body: bytes | None
    ) -> tuple[Answer, str | None]:
        response = self._pools.urlopen(
            method,
            url,
            headers=headers,
            body=body,
            redirect=False,
            preload_content=False,
            timeout=urllib3.Timeout(connect=seconds, read=seconds),
        )
        try:
            goes_to = response.get_redirect_location()
            whole = bytearray()
            while chunk := response.read(_CHUNK):
                whole += chunk
                if len(whole) > max_bytes:
                    raise PollError(
                        f"the answer is larger than {max_bytes >> 20} MiB",
                        where=shown_url(url),
                        hint="Ask for pages, or set max_mib for it in polling_endpoints.yaml",
                    )
        except BaseException:
            response.close()  # the connection has the rest of the answer in it
            raise
        response.release_conn()
        found = {name.lower(): value for name, value in response.headers.items()}
        return Answer(url, response.status, found, bytes(whole)), goes_to or None


def _absolute(url: str, location: str) -> str:
    from urllib.parse import urljoin

    return urljoin(url, location)


def _said(error: Exception) -> str:
    """What went wrong, without addresses of objects and without what the other side wrote beyond its kind."""
    cause: BaseException = error
    for _ in range(5):
        inner = cause.__cause__ or cause.__context__ or (cause.args[-1] if cause.args else None)
        if not isinstance(inner, BaseException):
            break
        cause = inner
    if isinstance(error, SSLError):
        return f"the connection is not secure: {printable(str(cause))[:200]}"
    if isinstance(error, DecodeError):
        return "the answer is not compressed as it says"
    if isinstance(error, NewConnectionError):
        return f"it cannot be connected to: {getattr(cause, 'strerror', None) or type(cause).__name__}"
    if isinstance(error, ProtocolError):
        return "the connection ended before the answer did"
    return f"the request failed: {type(cause).__name__}"
