"""`/healthz`, `/readyz` and `/metrics`: for the machines that watch the API. None of them asks for a token."""

import asyncio
from typing import Annotated, Any, Final

from fastapi import APIRouter, Header, Request, Response
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from meterhouse.alarms.delivery.threads import in_thread
from meterhouse.api.access.tokens import Tokens
from meterhouse.api.answers.faults import Fault
from meterhouse.api.answers.json_text import answer
from meterhouse.api.entry.addresses import is_within
from meterhouse.api.watching.parts import Part
from meterhouse.api.watching.ready import lake_answers, warehouse_answers
from meterhouse.api.watching.site_metrics import SiteMetrics
from meterhouse.settings import networks, variable
from meterhouse.site import Site

READY_SECONDS: Final = 2.0
"""How long what was seen of a part is believed."""

router = APIRouter(tags=["watch"])

_TEXT: Final = {"text/plain": {"schema": {"type": "string"}}}


class Watch:
    """What the paths show.

    Args:
        parts: what has to answer for the site to be ready.
        registry: the metrics.
        metrics: those of the site.
    """

    def __init__(self, parts: tuple[Part[Any], ...], registry: CollectorRegistry, metrics: SiteMetrics) -> None:
        self.parts, self.registry, self.metrics = parts, registry, metrics


def watch(site: Site, tokens: Tokens | None, registry: CollectorRegistry) -> Watch:
    """What the paths show of a site.

    Args:
        site: the site.
        tokens: validates tokens, if the API does.
        registry: gets the metrics of the site.
    """

    def warehouse() -> bool:
        return warehouse_answers(site)

    def lake() -> bool:
        return lake_answers(site)

    of_lake = Part("lake", lambda: in_thread(lake), READY_SECONDS)
    of_keystone = () if tokens is None else (Part("keystone", tokens.reachable, READY_SECONDS),)
    parts = (Part("warehouse", lambda: in_thread(warehouse), READY_SECONDS), of_lake, *of_keystone)
    return Watch(parts, registry, SiteMetrics(registry, site, (of_lake, *of_keystone)))


@router.get("/healthz", response_model=dict[str, str])
async def healthz() -> Response:
    """Whether the process answers.

    Asks nothing else: restart the process if there is no answer.
    """
    return answer({"status": "ok"})


@router.get("/readyz", response_model=dict[str, str], responses={503: {"description": "Parts do not answer"}})
async def readyz(request: Request) -> Response:
    """Whether requests can be answered.

    The warehouse, the lake and, if it says who may ask, Keystone have to answer. If one does not, the answer is 503
    and names it. Send requests elsewhere meanwhile.
    """
    watch: Watch = request.app.state.watch
    seen = await asyncio.gather(*(part.seen() for part in watch.parts))
    states = {part.name: "ok" if found is not None else "away" for part, found in zip(watch.parts, seen, strict=True)}
    ready = all(state == "ok" for state in states.values())
    return answer({"status": "ok" if ready else "not ready", **states}, 200 if ready else 503)


@router.get("/metrics", response_class=Response, responses={200: {"content": _TEXT, "description": "The metrics"}})
async def metrics(
    request: Request, accept: Annotated[str, Header(description="Prometheus's text or OpenMetrics.")] = ""
) -> Response:
    """The metrics of this process and of the site, for Prometheus.

    They have counts of the whole site, and nothing of a project. They are shown to the networks of
    METERHOUSE_API_METRICS_FROM, to others not: 403.
    """
    allowed = networks(request.app.state.site.settings.api_metrics_from)
    if not is_within(request.client.host if request.client else "", allowed):
        raise Fault(
            403, f"Metrics are not for this address. Have the operator add it to {variable('api_metrics_from')}"
        )
    watch: Watch = request.app.state.watch
    await watch.metrics.refresh()
    encode, content_type = choose_encoder(accept)
    return Response(encode(watch.registry), media_type=content_type)
