"""The application: its paths, what happens to every request, and to errors."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, cast

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from meterhouse import __version__
from meterhouse.api.access.identifying import identifying
from meterhouse.api.answers.faults import Fault, body, fault_of
from meterhouse.api.answers.json_text import answer
from meterhouse.api.paths.telemetry import meters
from meterhouse.api.reference.description import described
from meterhouse.errors import MeterhouseError
from meterhouse.site import Site

ROUTERS = (meters.router,)


class _Api(FastAPI):
    def openapi(self) -> dict[str, Any]:
        return described(self)


def create_app(site: Site) -> FastAPI:
    """The API of a site, as an ASGI application.

    Raises:
        MeterhouseError: a file that the settings name cannot be used.
    """
    closing = AsyncExitStack()

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        async with closing:
            yield

    app = _Api(title="Meterhouse", version=__version__, docs_url=None, redoc_url=None, lifespan=lifespan)
    app.state.site = site
    app.state.identify = identifying(site.settings, closing)
    for router in ROUTERS:
        app.include_router(router)
    for kind, handler in (
        (Fault, _fault),
        (MeterhouseError, _of_domain),
        (RequestValidationError, _invalid),
        (HTTPException, _of_http),
    ):
        app.add_exception_handler(kind, cast(Callable[[Request, Exception], Awaitable[Response]], handler))
    return app


async def _fault(request: Request, error: Fault) -> Response:
    return answer(body(error.status, error.text), error.status, error.headers)


async def _of_domain(request: Request, error: MeterhouseError) -> Response:
    return await _fault(request, fault_of(error))


async def _invalid(request: Request, error: RequestValidationError) -> Response:
    first = error.errors()[0]
    place = ".".join(str(each) for each in first["loc"][1:])
    return await _fault(request, Fault(400, f"Invalid input for field/attribute {place}. {first['msg']}"))


async def _of_http(request: Request, error: HTTPException) -> Response:
    headers = dict(error.headers or {})
    return await _fault(request, Fault(error.status_code, str(error.detail), headers))
