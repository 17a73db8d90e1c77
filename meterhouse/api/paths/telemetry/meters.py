"""`/v2/meters`: the meters of resources."""

import base64
from typing import Annotated, Any, Final

from fastapi import APIRouter, Response

from meterhouse.api.asked import Asked, allowed
from meterhouse.api.paths.telemetry.models import Meter
from meterhouse.api.requests.arguments import Argument, Arguments
from meterhouse.api.requests.metering_query import OWNERS, metering_query
from meterhouse.api.requests.paging import LIMIT, MARKER, limit_of, marker_of, unknown_marker
from meterhouse.api.requests.simple_query import Q, queries_of
from meterhouse.queries.meter_pages import Place, distinct_meters, meter_page

router = APIRouter(tags=["meters"])

_NOWHERE: Final = "None"
"""What Ceilometer writes for no resource into a meter_id."""

UNIQUE: Final = Argument(
    "unique",
    "Whether to list each meter once, however many resources have it.",
    "boolean",
    default=False,
    example="True",
)

ARGUMENTS: Final = Arguments(Q, LIMIT, MARKER, UNIQUE)


@router.get(
    "/v2/meters",
    openapi_extra=ARGUMENTS.documented,
    responses={200: {"model": list[Meter], "description": "The meters"}},
)
async def list_meters(asked: Annotated[Asked, allowed("telemetry:get_meters")]) -> Response:
    """List the meters of resources.

    There is one for each meter, type, unit and resource, ordered by meter and resource. Project, user and source are
    those of the newest sample that fulfils the query. `q` takes user_id, project_id, resource_id, source and
    metadata.KEY, with the operator eq.
    """
    given = await ARGUMENTS.of(asked.request)
    site, scope = asked.site, asked.identity.scope
    query = metering_query(queries_of(given), asked.identity, OWNERS, timed=False).conditions
    limit, marker = limit_of(given, site.settings), marker_of(given)
    after = None if marker is None else _place(marker)
    if given.boolean("unique"):
        name = None if after is None else after[0]
        return await asked.answer(
            lambda: list(map(_shown, distinct_meters(site, scope, OWNERS, query=query, limit=limit, after=name)))
        )
    return await asked.answer(
        lambda: list(map(_shown, meter_page(site, scope, OWNERS, query=query, limit=limit, after=after)))
    )


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    meter, resource_id = row["meter"], row.get("resource_id")
    return {
        "meter_id": meter_id(meter, resource_id),
        "name": meter,
        "type": row["type"],
        "unit": row["unit"],
        "resource_id": resource_id,
        "project_id": row.get("project_id"),
        "user_id": row.get("user_id"),
        "source": row.get("source"),
    }


def meter_id(meter: str, resource_id: str | None) -> str:
    """The id of a meter of a resource, as Ceilometer makes it."""
    text = f"{_NOWHERE if resource_id is None else resource_id}+{meter}"
    return base64.b64encode(text.encode("utf-8", "surrogatepass")).decode()


def _place(marker: str) -> Place:
    """The meter and the resource of a meter_id."""
    try:
        text = base64.b64decode(marker.replace(" ", "+"), validate=True).decode()
    except ValueError:  # not base64, or not UTF-8
        raise unknown_marker("meter_id", marker) from None
    resource_id, plus, meter = text.rpartition("+")
    if not plus or "\0" in text:
        raise unknown_marker("meter_id", marker)
    return meter, None if resource_id == _NOWHERE else resource_id
