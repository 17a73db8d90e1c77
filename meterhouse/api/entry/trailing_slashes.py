"""A path may end with a slash, as in Ceilometer: it is the one without."""

from starlette.types import ASGIApp, Receive, Scope, Send


class TrailingSlashes:
    """Drops the slash at the end of paths."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"].endswith("/") and scope["path"] != f"{scope['root_path']}/":
            scope = {**scope, "path": scope["path"][:-1]}
            if (raw := scope.get("raw_path")) is not None:
                scope["raw_path"] = raw.removesuffix(b"/")
        await self._app(scope, receive, send)
