"""The application: its paths, what happens to every request, and to errors."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, cast

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from prometheus_client import CollectorRegistry
from starlette.exceptions import HTTPException

from meterhouse import __version__
from meterhouse.api.access.identifying import identifying
from meterhouse.api.access.tokens import Tokens
from meterhouse.api.answers.faults import Fault, body, fault_of, unavailable
from meterhouse.api.answers.json_text import answer
from meterhouse.api.answers.methods import methods_of
from meterhouse.api.entry.heads import Heads
from meterhouse.api.entry.proxies import Proxies
from meterhouse.api.entry.rates import Rates
from meterhouse.api.entry.request_ids import RequestIds
from meterhouse.api.entry.sizes import Sizes
from meterhouse.api.entry.slashes import Slashes
from meterhouse.api.entry.unexpected import Unexpected, failure, log_failure
from meterhouse.api.paths.alarming import routers as alarming
from meterhouse.api.paths.telemetry import (
    capabilities,
    event_types,
    events,
    meters,
    posting,
    resources,
    samples,
    statistics,
    versions,
)
from meterhouse.api.reference.description import described
from meterhouse.api.serving.kept_answers import KeptAnswers
from meterhouse.api.serving.lanes import Lanes
from meterhouse.api.watching import paths as watching
from meterhouse.api.watching.access_log import AccessLog
from meterhouse.api.watching.observed import Observed, Observer
from meterhouse.api.watching.request_metrics import RequestMetrics
from meterhouse.collection.posting import Posting
from meterhouse.errors import MeterhouseError
from meterhouse.site import Site

ROUTERS = (
    versions.router,
    meters.router,
    statistics.router,
    samples.router,
    resources.router,
    events.router,
    event_types.router,
    capabilities.router,
    posting.router,
    *alarming.ROUTERS,
    watching.router,
)


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

    app = _Api(
        title="Meterhouse",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
    )
    app.state.site = site
    site.kept.begin()
    closing.callback(site.kept.end)
    app.state.kept_answers = KeptAnswers(site)
    app.state.lanes = Lanes()
    closing.callback(app.state.lanes.close)
    tokens = Tokens(site.settings) if site.settings.api_auth == "keystone" else None
    if tokens is not None:
        closing.push_async_callback(tokens.close)
    app.state.identify = identifying(tokens)
    app.state.posting = Posting(site)
    closing.callback(app.state.posting.close)
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
    registry = CollectorRegistry()
    requests = RequestMetrics(registry, app.state.lanes)
    app.state.watch = watching.watch(site, tokens, registry)
    _add_layers(app, requests, closing)
    return app


def _add_layers(app: FastAPI, metrics: RequestMetrics, closing: AsyncExitStack) -> None:
    """Put around an application what happens to every request and answer; the last one is the outermost."""
    settings = app.state.site.settings
    observers: list[Observer] = [metrics.observe]
    if settings.api_access_log:
        log = AccessLog()
        closing.callback(log.close)
        observers.append(log.observe)
    app.add_middleware(Slashes)
    app.add_middleware(Heads)
    app.add_middleware(Sizes, body_bytes=settings.api_body_bytes)
    app.add_middleware(Unexpected)
    app.add_middleware(Proxies, settings=settings)
    app.add_middleware(RequestIds)
    app.add_middleware(Observed, begin=metrics.begin, observers=observers)


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
    if error.status_code == 405:
        headers["Allow"] = methods_of(request.app.routes, request.scope)
    return await _fault(request, Fault(error.status_code, str(error.detail), headers))
