"""One webhook call: a POST with one deadline for everything, of which the status and the start of the answer are read.

The deadline holds for name resolution, connection, TLS, sending, and for the answer. Whatever the receiver does, the
call ends by then, and takes at most MAX_ANSWER bytes. Redirects are not followed, because they could lead the
notification anywhere; proxies of the environment are not used, because the address that is checked must be the one that
is called. The URL's path and query are sent byte for byte.
"""

import asyncio
import base64
import re
import socket
import ssl
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import unquote_to_bytes

from meterhouse.alarms.delivery.resolving import Forbidden, Resolver, Target, target
from meterhouse.stream.envelope import clean

MAX_ANSWER: Final = 1 << 16
"""How many bytes of an answer are taken at most; with TLS, its certificates count."""

SHOWN: Final = 400
"""How many bytes of the answer's body are kept at most."""

BODY_SECONDS: Final = 0.25
"""How long the start of the body may take after the head."""

LEAST_SECONDS: Final = 0.5
"""For how long an address is tried at least, if a name has several, before the next one has its turn."""

_STATUS: Final = re.compile(rb"HTTP/1\.[01] ([1-9][0-9]{2})(?: [^\r\n]*)?\r?\n")
_HEAD_ENDS: Final = re.compile(rb"\r?\n\r?\n")
_FIELD: Final = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\r\n]*?)[ \t]*")


@dataclass(frozen=True)
class Answer:
    """How a call ended.

    Attributes:
        error: why the receiver has not accepted the notification, in one line; None if it has.
        status: the status of the answer; None without one.
        body: how the answer's body begins, as text.
        address: address and port that were called; None if none was reached.
        seconds: how long it took.
        retry_after: how many seconds the receiver wants to have peace; None if it does not say.
        is_final: whether another attempt is useless.
    """

    error: str | None
    status: int | None = None
    body: str | None = None
    address: str | None = None
    seconds: float = 0.0
    retry_after: int | None = None
    is_final: bool = False


@dataclass(frozen=True)
class Request:
    """What to send where.

    Attributes:
        url: the receiver, without `trust+`, user and password.
        userinfo: user and password for basic authentication, as the URL has them; empty without any.
        headers: the header, with names in lower case.
        body: the content.
        origin: `file` for an alarm of `alarms.yaml`, else `outside`.
        tls: how to speak TLS, if the URL is `https://`.
    """

    url: str
    userinfo: str
    headers: Mapping[str, str]
    body: bytes
    origin: str
    tls: ssl.SSLContext | None


async def post(request: Request, resolver: Resolver, seconds: float, allowed: float | None = None) -> Answer:
    """Call a receiver. Nothing that a URL or a receiver does raises.

    Args:
        request: what to send.
        resolver: resolves and checks the host.
        seconds: the deadline of the whole call.
        allowed: the deadline to name in an error, if a part of it has passed already.
    """
    began = time.monotonic()
    wire = _Wire()
    final = False
    error: str | None = None
    try:
        async with asyncio.timeout(seconds):
            where = target(request.url)
            await _connect(wire, where, request, resolver, seconds)
            wire.send(_head(where, request) + request.body)
            await wire.head
            with suppress(TimeoutError):
                async with asyncio.timeout(BODY_SECONDS):
                    await wire.shown
    except TimeoutError:
        error = f"Timeout: the receiver has not answered within {allowed or seconds:g} s"
    except Forbidden as refused:
        error, final = f"refused: {refused}", True
    except Exception as failure:  # whatever one URL or receiver causes, the other calls continue
        error = _line(failure)
    finally:
        wire.abort()
    if wire.status is not None:
        error = None if 200 <= wire.status < 300 else f"the receiver answered {wire.status}"
    return Answer(
        error=error,
        status=wire.status,
        body=wire.text(),
        address=wire.address,
        seconds=time.monotonic() - began,
        retry_after=wire.retry_after(),
        is_final=final,
    )


async def _connect(wire: "_Wire", where: Target, request: Request, resolver: Resolver, seconds: float) -> None:
    """Connect to the first address that answers."""
    loop = asyncio.get_running_loop()
    places = await resolver.addresses(where.host, where.port, request.origin)
    failure: Exception = OSError("there is no address")
    for number, (family, place) in enumerate(places, 1):
        connection = socket.socket(family, socket.SOCK_STREAM)
        try:
            connection.setblocking(False)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            last = number == len(places)
            async with asyncio.timeout(None if last else max(LEAST_SECONDS, seconds / (len(places) + 1))):
                await loop.sock_connect(connection, place)
            await loop.create_connection(lambda: wire, sock=connection)
        except (OSError, TimeoutError) as error:
            connection.close()
            failure = error
        except BaseException:
            connection.close()
            raise
        else:
            wire.address = f"[{place[0]}]:{place[1]}" if family == socket.AF_INET6 else f"{place[0]}:{place[1]}"
            break
    else:
        raise failure
    if where.secure:
        wire.shake_hands(request.tls or ssl.create_default_context(), where.host)
        await wire.ready


def _head(where: Target, request: Request) -> bytes:
    fields = {
        "host": where.authority,
        "user-agent": "meterhouse",
        "accept": "*/*",
        "accept-encoding": "identity",
        "connection": "close",
        "content-length": str(len(request.body)),
        **request.headers,
    }
    if request.userinfo:
        user, _, password = request.userinfo.partition(":")
        plain = unquote_to_bytes(user) + b":" + unquote_to_bytes(password)
        fields["authorization"] = f"Basic {base64.b64encode(plain).decode()}"
    lines = [f"POST {where.resource} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
    return "\r\n".join(lines).encode("latin-1")


class _Wire(asyncio.Protocol):
    """A connection of one call: with TLS or without, it takes a bounded answer.

    Attributes:
        ready: done when TLS is set up.
        head: done when the head of the answer has come.
        shown: done when enough of its body has come, or all of it.
        status: the status of the answer, as soon as it has one.
        address: what it is connected to.
    """

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.ready, self.head, self.shown = loop.create_future(), loop.create_future(), loop.create_future()
        for future in (self.ready, self.head, self.shown):
            future.add_done_callback(lambda done: done.cancelled() or done.exception())  # perhaps nobody waits for it
        self.status: int | None = None
        self.address: str | None = None
        self._transport: asyncio.Transport | None = None
        self._left = MAX_ANSWER
        self._come = bytearray()
        self._looked = 0
        self._fields: dict[str, str] = {}
        self._tls: ssl.SSLObject | None = None
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()

    # -- what asyncio calls -------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Take what has come, up to MAX_ANSWER bytes in all."""
        if self.shown.done():
            return
        data = data[: self._left]
        self._left -= len(data)
        try:
            if self._tls is None:
                self._take(data)
            else:
                self._in.write(data)
                self._decrypt()
            if not self._left:
                raise ValueError(f"the answer has more than {MAX_ANSWER:,} bytes before its end")
        except Exception as error:
            self._end(error)

    def eof_received(self) -> None:
        self._in.write_eof()

    def connection_lost(self, error: Exception | None) -> None:
        self._end(error or ConnectionError("the receiver has closed the connection before its answer was there"))

    # -- what the call does -------------------------------------------------------------------------------------

    def shake_hands(self, context: ssl.SSLContext, host: str) -> None:
        self._tls = context.wrap_bio(self._in, self._out, server_hostname=host.rstrip("."))
        self._decrypt()

    def send(self, data: bytes) -> None:
        if self._tls is not None:
            self._tls.write(data)
            self._flush()
        elif self._transport is not None:
            self._transport.write(data)

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def text(self) -> str | None:
        """How the body begins; None without a body."""
        if self.status is None:
            return None
        found = bytes(self._come[:SHOWN])
        if "chunked" in self._fields.get("transfer-encoding", "").lower():
            found = re.sub(rb"\A[0-9A-Fa-f]+[^\r\n]*\r\n", b"", found)
        return clean(found.decode("utf-8", "replace")).strip() or None

    def retry_after(self) -> int | None:
        said = self._fields.get("retry-after", "")
        return int(said) if said.isdecimal() and said.isascii() and len(said) < 8 else None

    # -- parts --------------------------------------------------------------------------------------------------

    def _end(self, error: Exception) -> None:
        for future in (self.ready, self.head, self.shown):
            if not future.done():
                future.set_exception(error)
        self.abort()

    def _flush(self) -> None:
        if self._transport is not None and (data := self._out.read()):
            self._transport.write(data)

    def _decrypt(self) -> None:
        """Continue TLS with what has come."""
        tls = self._tls
        assert tls is not None
        try:
            if not self.ready.done():
                tls.do_handshake()
                self.ready.set_result(None)
            while data := tls.read(MAX_ANSWER):
                self._take(data)
            self._end(ConnectionError("the receiver has closed the connection before its answer was there"))
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self._end(ConnectionError("the receiver has closed the connection before its answer was there"))
        finally:
            self._flush()

    def _take(self, data: bytes) -> None:
        """Read the head, after those of the statuses 1xx, and the start of the body."""
        self._come += data
        while not self.head.done():
            ends = _HEAD_ENDS.search(self._come, self._looked)
            if ends is None:
                self._looked = max(0, len(self._come) - 4)
                if not b"HTTP/1.".startswith(self._come[:7]):
                    raise ValueError("the receiver does not speak HTTP/1")
                return
            head, self._looked = bytes(self._come[: ends.end()]), 0
            del self._come[: ends.end()]
            found = _STATUS.match(head)
            if found is None:
                raise ValueError("the receiver does not speak HTTP/1")
            status = int(found[1])
            if 100 <= status < 200 and status != 101:
                continue
            lines = head[found.end() :].decode("latin-1").splitlines()
            matches = filter(None, map(_FIELD.fullmatch, lines))
            self._fields = {match[1].lower(): match[2] for match in matches}
            self.status = status
            self.head.set_result(None)
        length = self._fields.get("content-length", "")
        wanted = SHOWN + 16
        if self.status in (204, 304):
            wanted = 0
        elif length.isascii() and length.isdecimal() and len(length) < 16:
            wanted = min(wanted, int(length))
        if len(self._come) >= wanted and not self.shown.done():
            self.shown.set_result(None)


def _line(error: BaseException) -> str:
    """An error in one line."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    kind = "ConnectError" if isinstance(error, ConnectionRefusedError) else type(error).__name__
    said: Any = error.strerror if isinstance(error, OSError) and error.strerror else error
    return clean(" ".join(f"{kind}: {said}".split()))[:300]
