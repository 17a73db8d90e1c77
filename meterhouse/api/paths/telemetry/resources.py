"""`/v2/resources`: what is measured."""

from collections.abc import Sequence
from typing import Annotated, Any, Final
from urllib.parse import quote

from fastapi import APIRouter, Response

from meterhouse.api.answers.faults import not_found
from meterhouse.api.answers.json_text import answer
from meterhouse.api.answers.links import base_of, link
from meterhouse.api.answers.metadata import flat
from meterhouse.api.asked import Asked, allowed
from meterhouse.api.paths.telemetry.models import Resource
from meterhouse.api.paths.telemetry.names import ResourceId
from meterhouse.api.requests.arguments import Argument, Arguments
from meterhouse.api.requests.metering_query import OWNERS, metering_query
from meterhouse.api.requests.paging import LIMIT, MARKER, limit_of, marker_of
from meterhouse.api.requests.simple_query import Q, queries_of
from meterhouse.filters import Filter
from meterhouse.queries.resource_pages import Listed, resource_page

router = APIRouter(tags=["resources"])

METER_LINKS: Final = Argument(
    "meter_links", "Whether to link to the samples of each meter; 0 or 1.", "boolean", default=True, example="0"
)

ARGUMENTS: Final = Arguments(Q, LIMIT, MARKER, METER_LINKS)
OF_ONE: Final = Arguments(METER_LINKS)


@router.get(
    "/v2/resources",
    openapi_extra=ARGUMENTS.documented,
    responses={200: {"model": list[Resource], "description": "The resources"}},
)
async def list_resources(asked: Annotated[Asked, allowed("telemetry:get_resources")]) -> Response:
    """List resources.

    They are ordered by id. Each is shown as its samples show it that fulfil the query: the times of the first and the
    last of them, and owner, source and metadata of the last. `q` takes user_id, project_id, resource_id, source and
    metadata.KEY, with the operator eq, and timestamp with lt, le, gt and ge.
    """
    given = await ARGUMENTS.of(asked.request)
    site, scope = asked.site, asked.identity.scope
    found = metering_query(queries_of(given), asked.identity, OWNERS)
    limit, marker, links = limit_of(given, site.settings), marker_of(given), given.boolean("meter_links", True)
    base = base_of(asked.request)

    def listed() -> list[dict[str, Any]]:
        rows = resource_page(
            site,
            scope,
            OWNERS,
            query=found.conditions,
            start=found.start,
            end=found.end,
            limit=limit,
            after=marker,
            meters=links,
        )
        return [_shown(row, base) for row in rows]

    return await asked.answer(listed)


@router.get(
    "/v2/resources/{resource_id:path}",
    openapi_extra=OF_ONE.documented,
    responses={200: {"model": Resource, "description": "The resource"}},
)
async def show_resource(
    resource_id: ResourceId, asked: Annotated[Asked, allowed("telemetry:get_resource")]
) -> Response:
    """Show a resource.

    If there is none, or all of its samples are another project's, the answer is 404.
    """
    given = await OF_ONE.of(asked.request)
    site, scope, links = asked.site, asked.identity.scope, given.boolean("meter_links", True)
    if "\0" in resource_id:
        raise not_found("Resource", resource_id)
    rows: Sequence[Listed] = await asked.run(
        lambda: resource_page(
            site, scope, OWNERS, query=[Filter("resource_id", "eq", resource_id, OWNERS)], meters=links, listed=False
        )
    )
    if not rows:
        raise not_found("Resource", resource_id)
    return answer(_shown(rows[0], base_of(asked.request)))


def _shown(row: Listed, base: str) -> dict[str, Any]:
    samples = f"q.field=resource_id&q.value={quote(row.resource_id, safe='')}"
    return {
        "resource_id": row.resource_id,
        "project_id": row.project_id,
        "user_id": row.user_id,
        "source": row.source,
        "first_sample_timestamp": row.first_sample_at,
        "last_sample_timestamp": row.last_sample_at,
        "metadata": flat(row.metadata),
        "links": [
            link("self", base, "v2", "resources", row.resource_id),
            *(link(meter, base, "v2", "meters", meter, query=samples) for meter in row.meters),
        ],
    }
