"""What is known of each request once it is answered, for whoever counts or logs it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from meterhouse.api.access.identity import Identity


@dataclass(frozen=True, slots=True)
class Observation:
    """A request that was answered, or whose client has gone.

    Attributes:
        scope: ASGI's, as the application left it.
        status: of the answer; 499 if there was none, because the client had gone.
        sent: bytes of the answer's body.
        seconds: from the request's head to the answer's end.
    """

    scope: Scope
    status: int
    sent: int
    seconds: float

    @property
    def path(self) -> str:
        """The template of the path, such as `/v2/meters/{meter_name}`; empty if the API has none for the request."""
        return str(getattr(self.scope.get("route"), "path_format", ""))

    @property
    def identity(self) -> Identity | None:
        """Who asked; None if it was not found out."""
        found: Any = self.scope.get("state", {}).get("identity")
        return found if isinstance(found, Identity) else None


Begin = Callable[[], None]
Observer = Callable[[Observation], None]


class Observed:
    """Tells observers of each request.

    Args:
        app: the next application.
        begin: is called when a request begins.
        observers: are called with each observation. They must not wait, nor fail.
    """

    def __init__(self, app: ASGIApp, begin: Begin, observers: Sequence[Observer]) -> None:
        self._app, self._begin, self._observers = app, begin, observers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status, sent, begun = 499, 0, perf_counter()

        async def counted(message: Message) -> None:
            nonlocal status, sent
            if message["type"] == "http.response.start":
                status = message["status"]
            else:
                sent += len(message.get("body", b""))
            await send(message)

        self._begin()
        try:
            await self._app(scope, receive, counted)
        finally:
            seen = Observation(scope, status, sent, perf_counter() - begun)
            for each in self._observers:
                each(seen)
