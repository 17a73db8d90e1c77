"""The id of each request, in its answer and in the log: `req-` and a UUID, as OpenStack's services have it."""

import re
from typing import Any, Final
from uuid import uuid4

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

NAME: Final = "X-Openstack-Request-Id"
_HEADER: Final = NAME.lower().encode()
_GIVEN: Final = re.compile(rb"req-[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


class RequestIds:
    """Takes the id that a client gives, if it is well formed, or makes one; the answer has it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = next((value for name, value in scope["headers"] if name == _HEADER), b"")
        request_id = given.decode() if _GIVEN.fullmatch(given) else f"req-{uuid4()}"
        scope.setdefault("state", {})["request_id"] = request_id

        async def with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)[NAME] = request_id
            await send(message)

        await self._app(scope, receive, with_id)


def request_id(scope: Any) -> str:
    """The id of a request, by its ASGI scope; empty outside of one."""
    return str(scope.get("state", {}).get("request_id", ""))
