"""Paths that end with a slash mean the same without it, as in Ceilometer and Aodh."""

from starlette.types import ASGIApp, Receive, Scope, Send


class Slashes:
    """Takes the slashes from the ends of paths."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "http" and len(scope["path"]) > 1 and scope["path"].endswith("/"):
            scope = {**scope, "path": scope["path"].rstrip("/") or "/"}
        await self._app(scope, receive, send)
