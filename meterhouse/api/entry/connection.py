"""A client's connection: uvicorn's, which has no limit of its own for how long or how slowly a request may come."""

from asyncio import BaseTransport, Transport
from asyncio.events import TimerHandle
from typing import Any, Final, cast
from uuid import uuid4

import orjson
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from meterhouse.api.answers.faults import body
from meterhouse.api.entry.request_ids import NAME
from meterhouse.api.entry.sizes import HEADER_BYTES, URL_BYTES

HEAD_SECONDS: Final = 10.0
"""Within which a request's head has to come, from the connection's or the request's first byte on."""

BODY_SECONDS: Final = 120.0
"""Within which the rest of a request has to come."""

KEEP_ALIVE_SECONDS: Final = 65
"""How long a connection stays without a request: longer than proxies keep theirs, so that they close them."""


class Connection(HttpToolsProtocol):
    """Ends requests whose head is endless, and those that come too slowly."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self._head_bytes = 0
        self._in_head = True
        self._began = self._ended = False
        self._coming: TimerHandle | None = None

    def connection_made(self, transport: BaseTransport) -> None:
        """A client has come."""
        super().connection_made(cast(Transport, transport))
        self._expect(HEAD_SECONDS)

    def connection_lost(self, exc: Exception | None) -> None:
        """A client has gone."""
        super().connection_lost(exc)
        self._expect(None)

    def data_received(self, data: bytes) -> None:
        """Some bytes of a request, or of several."""
        self._began = self._ended = False
        super().data_received(data)
        if self._in_head and not self.transport.is_closing():
            # If a request has ended in these bytes, nobody knows how many of them are of the next head.
            self._head_bytes += self._began if self._ended else len(data)
            if self._head_bytes > URL_BYTES + HEADER_BYTES:
                long_url = self.scope is not None and len(self.url) > URL_BYTES
                self._refuse(
                    414 if long_url else 431, f"The {'URL' if long_url else 'head'} of the request is too long"
                )
            elif self._coming is None and not self._busy:
                self._expect(HEAD_SECONDS)

    def on_message_begin(self) -> None:
        """The first byte of a request."""
        self._began = True
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """A part of a URL. What is longer than it may be is refused later: there, an answer can be given."""
        super().on_url(url[: max(0, URL_BYTES + 2 - len(self.url))])

    def on_headers_complete(self) -> None:
        """The end of a head."""
        self._in_head, self._head_bytes = False, 0
        self._expect(BODY_SECONDS)
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        """The end of a request."""
        self._in_head = self._ended = True
        self._began = False
        self._expect(None)
        super().on_message_complete()

    def on_response_complete(self) -> None:
        """The end of an answer."""
        super().on_response_complete()
        if self._head_bytes and not self._busy and not self.transport.is_closing():
            self._expect(HEAD_SECONDS)  # a part of the next request is there already

    def send_400_response(self, msg: str) -> None:
        """Answer what is not HTTP."""
        self._refuse(400, "The request is not HTTP")

    def _expect(self, seconds: float | None) -> None:
        if self._coming is not None:
            self._coming.cancel()
        self._coming = None if seconds is None else self.loop.call_later(seconds, self._too_slow)

    def _too_slow(self) -> None:
        self._coming = None
        if not self.transport.is_closing():
            self._refuse(408, "The request came too slowly")

    @property
    def _busy(self) -> bool:
        """Whether a request is being answered."""
        return self.cycle is not None and not self.cycle.response_complete

    def _refuse(self, status: int, text: str) -> None:
        """Answer what has come of a request without the application, and close the connection."""
        if not self._busy or (self.cycle.more_body and not self.cycle.response_started):
            content = orjson.dumps(body(status, text))
            head = (
                *self.server_state.default_headers,
                (b"content-type", b"application/json"),
                (b"content-length", str(len(content)).encode()),
                (b"connection", b"close"),
                (NAME.lower().encode(), f"req-{uuid4()}".encode()),
            )
            lines = b"".join(b"%s: %s\r\n" % each for each in head)
            self.transport.write(STATUS_LINE[status] + lines + b"\r\n" + content)
        self.transport.close()
