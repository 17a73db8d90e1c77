"""Paths that end with a slash mean the same without it, as in Ceilometer and Aodh."""

from starlette.types import ASGIApp, Receive, Scope, Send


class Slashes:
    """Takes the slashes from the ends of paths."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "http":
            root = scope.get("root_path", "")
            path = scope["path"].rstrip("/")
            scope["path"] = f"{root}/" if path == root else path  # in place: the outer ones look at what was found
        await self._app(scope, receive, send)
