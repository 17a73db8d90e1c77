"""One webhook call: a POST with one deadline for everything, of which only the status is read.

The deadline holds for name resolution, connection, TLS, sending, and for the answer up to the end of its header.
Whatever the receiver does, the call ends by then. The body of the answer is never read. Redirects are not followed,
because they could lead the notification anywhere.
"""

import asyncio
import socket
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final

from meterhouse.stream.envelope import clean

if TYPE_CHECKING:
    import httpx


def _line(error: BaseException) -> str:
    """An error in one line."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return clean(" ".join(f"{type(error).__name__}: {error}".split()))[:300]


MAX_ANSWER: Final = 1 << 16
"""How many bytes of an answer are taken at most; with TLS, its certificates count."""


def client() -> "httpx.AsyncClient":
    """A client for any number of calls at the same time; the deadline is in `post`."""
    import httpx

    limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
    return httpx.AsyncClient(timeout=None, limits=limits, follow_redirects=False)


async def post(
    client: "httpx.AsyncClient", url: str, body: str, headers: Mapping[str, str], seconds: float
) -> str | None:
    """Call a receiver; return the error in one line, if it has not accepted the notification.

    Args:
        client: from `client`.
        url: the receiver.
        body: what to send.
        headers: the header.
        seconds: the deadline of the whole call.
    """
    status = None
    opened: list[asyncio.BaseTransport] = []
    _opened.set(opened)
    try:
        async with asyncio.timeout(seconds), client.stream("POST", url, content=body, headers=headers) as answer:
            status = answer.status_code
    except TimeoutError:
        if status is None:
            return f"Timeout: the receiver has not answered within {seconds:g} s"
    except Exception as error:  # whatever one URL or receiver causes, the other calls continue
        if status is None:
            return _line(error)
    finally:
        for transport in opened:  # a call that is cancelled in a TLS handshake leaves its connection open
            if isinstance(transport, asyncio.WriteTransport):
                transport.abort()
    if status is not None and 200 <= status < 300:
        return None
    return f"the receiver answered {status}"


def _limit(transport: Any, protocol: Any) -> None:
    """Let a connection take at most MAX_ANSWER bytes: parsing a flood would keep the other calls waiting."""
    take, left = protocol.data_received, MAX_ANSWER

    def data_received(data: bytes) -> None:
        nonlocal left
        if left:
            take(data[:left])
            left -= min(left, len(data))
        if not left:
            transport.abort()

    protocol.data_received = data_received


_opened: ContextVar[list[asyncio.BaseTransport]] = ContextVar("opened")
"""The connections that the present call has opened."""


class Loop(asyncio.SelectorEventLoop):
    """An event loop for calls of servers that may be hostile.

    It notes each call's connections, takes at most MAX_ANSWER bytes from each, and resolves names in threads which
    nobody has to wait for.
    """

    async def create_connection(self, *given: Any, **how: Any) -> Any:
        """As usual, with the limit."""
        transport, protocol = await super().create_connection(*given, **how)
        _opened.get().append(transport)
        _limit(transport, protocol)
        return transport, protocol

    async def getaddrinfo(self, host: Any, port: Any, **how: Any) -> Any:
        """As `socket.getaddrinfo`. A cancelled call leaves its thread to the resolver's own time limits."""
        found: asyncio.Future[Any] = self.create_future()

        def settle(method: Callable[[Any], None], value: Any) -> None:
            with suppress(RuntimeError):  # the loop is closed: nobody waits
                self.call_soon_threadsafe(lambda: None if found.done() else method(value))

        def resolve() -> None:
            try:
                addresses = socket.getaddrinfo(host, port, **how)
            except Exception as error:
                settle(found.set_exception, error)
            else:
                settle(found.set_result, addresses)

        threading.Thread(target=resolve, daemon=True, name="resolve").start()
        return await found
