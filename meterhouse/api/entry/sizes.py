"""How much a request may be: the length of its URL, of its headers, and of its body, however it is sent."""

from typing import Final

from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from meterhouse.api.answers.faults import Fault
from meterhouse.api.entry.refusals import refuse
from meterhouse.settings import variable

URL_BYTES: Final = 16 << 10
"""Length of a URL's path and query at most: a query of a hundred conditions fits."""

HEADER_BYTES: Final = 32 << 10
"""Length of all headers at most: a signed token of Keystone has less than 4 KiB."""


class Sizes:
    """Refuses what is too large: 414, 431, 413.

    Args:
        app: the next application.
        body_bytes: length of a body at most.
    """

    def __init__(self, app: ASGIApp, body_bytes: int) -> None:
        self._app, self._body_bytes = app, body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        fault = self._of_head(scope)
        if fault is not None:
            await refuse(fault, scope, receive, send)
            return
        body = _Body(receive, send, self._body_bytes)
        try:
            await self._app(scope, body.receive, body.send)
        except ClientDisconnect:
            if not body.over:
                raise
        if body.over:
            await refuse(self._too_long(), scope, receive, send)

    def _of_head(self, scope: Scope) -> Fault | None:
        url = len(scope.get("raw_path") or scope["path"]) + len(scope["query_string"])
        if url > URL_BYTES:
            return Fault(414, f"The URL is longer than {URL_BYTES:,} bytes. Send a complex query with POST instead")
        if sum(len(name) + len(value) for name, value in scope["headers"]) > HEADER_BYTES:
            return Fault(
                431, f"The headers are longer than {HEADER_BYTES:,} bytes. Leave out those that are not needed"
            )
        declared = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
        return self._too_long() if declared.isdigit() and int(declared) > self._body_bytes else None

    def _too_long(self) -> Fault:
        return Fault(
            413,
            f"The body is longer than {self._body_bytes:,} bytes. Send it in several requests, or have the operator "
            f"set {variable('api_body_bytes')}",
        )


class _Body:
    """Counts what comes of a body. Once it is too long, the application gets no more, and its answer is dropped."""

    def __init__(self, receive: Receive, send: Send, limit: int) -> None:
        self._receive, self._send, self._left = receive, send, limit
        self._started = False

    @property
    def over(self) -> bool:
        """Whether the body was too long, and nothing was answered yet."""
        return self._left < 0 and not self._started

    async def receive(self) -> Message:
        if self._left < 0:
            return {"type": "http.disconnect"}
        message = await self._receive()
        if message["type"] == "http.request":
            self._left -= len(message.get("body", b""))
            if self._left < 0:
                return {"type": "http.disconnect"}
        return message

    async def send(self, message: Message) -> None:
        if not self.over:
            self._started = True
            await self._send(message)
