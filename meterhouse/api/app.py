"""The application: its paths, what happens to every request, and to errors."""

from collections.abc import Awaitable, Callable
from typing import Any, cast

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from meterhouse import __version__
from meterhouse.api.access.headers import identity_of_headers
from meterhouse.api.access.identity import Identity
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
    """The API of a site, as an ASGI application."""
    app = _Api(title="Meterhouse", version=__version__, docs_url=None, redoc_url=None)
    app.state.site = site
    app.state.identify = _identify
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


async def _identify(request: Request) -> Identity:
    return identity_of_headers(request.headers)


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
