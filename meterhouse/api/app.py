"""The application: its paths, what happens to every request, and to errors."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, cast

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from meterhouse import __version__
from meterhouse.api.access.identifying import identifying
from meterhouse.api.answers.faults import Fault, body, fault_of, unavailable
from meterhouse.api.answers.json_text import answer
from meterhouse.api.entry.proxies import Proxies
from meterhouse.api.entry.rates import Rates
from meterhouse.api.entry.request_ids import RequestIds
from meterhouse.api.entry.sizes import Sizes
from meterhouse.api.entry.unexpected import Unexpected, failure, log_failure
from meterhouse.api.paths.telemetry import meters
from meterhouse.api.reference.description import described
from meterhouse.api.serving.lanes import Lanes
from meterhouse.api.watching.access_log import AccessLog
from meterhouse.api.watching.observed import Observed, Observer
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
    app.state.lanes = Lanes()
    closing.callback(app.state.lanes.close)
    app.state.identify = identifying(site.settings, closing)
    app.state.rates = Rates(site.settings.api_requests_per_minute)
    for router in ROUTERS:
        app.include_router(router)
    for kind, handler in (
        (Fault, _fault),
        (MeterhouseError, _of_domain),
        (RequestValidationError, _invalid),
        (HTTPException, _of_http),
    ):
        app.add_exception_handler(kind, cast(Callable[[Request, Exception], Awaitable[Response]], handler))
    observers: list[Observer] = []
    if site.settings.api_access_log:
        log = AccessLog()
        closing.callback(log.close)
        observers.append(log.observe)
    # The last one is the first to see a request.
    app.add_middleware(Sizes, body_bytes=site.settings.api_body_bytes)
    app.add_middleware(Unexpected)
    app.add_middleware(Proxies, settings=site.settings)
    app.add_middleware(RequestIds)
    app.add_middleware(Observed, observers=observers)
    return app


async def _fault(request: Request, error: Fault) -> Response:
    return answer(body(error.status, error.text), error.status, error.headers)


async def _of_domain(request: Request, error: MeterhouseError) -> Response:
    fault = fault_of(error)
    if fault.status >= 500:
        log_failure(request.scope, error)
        identity = getattr(request.state, "identity", None)
        if identity is None or not identity.is_admin:  # the text may name servers and files
            fault = unavailable() if fault.status == 503 else failure(request.scope)
    return await _fault(request, fault)


async def _invalid(request: Request, error: RequestValidationError) -> Response:
    first = error.errors()[0]
    place = ".".join(str(each) for each in first["loc"][1:])
    return await _fault(request, Fault(400, f"Invalid input for field/attribute {place}. {first['msg']}"))


async def _of_http(request: Request, error: HTTPException) -> Response:
    headers = dict(error.headers or {})
    return await _fault(request, Fault(error.status_code, str(error.detail), headers))
