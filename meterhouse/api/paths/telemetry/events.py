"""`/v2/events`: events with their traits."""

import json
from typing import Annotated, Any, Final

from fastapi import APIRouter, Response

from meterhouse.api.access.event_scopes import event_scope_of
from meterhouse.api.answers.faults import invalid, not_found
from meterhouse.api.answers.json_text import answer
from meterhouse.api.asked import Asked, allowed
from meterhouse.api.paths.telemetry.models import Event
from meterhouse.api.paths.telemetry.names import MessageId
from meterhouse.api.requests.arguments import Argument, Arguments
from meterhouse.api.requests.event_query import event_query
from meterhouse.api.requests.paging import LIMIT, MARKER, limit_of, marker_of, unknown_marker
from meterhouse.api.requests.simple_query import Q, queries_of
from meterhouse.queries.event_pages import EventPage, event_by_id, event_page

router = APIRouter(tags=["events"])

ORDERS: Final = {"generated": False, "generated:asc": False, "generated:desc": True}

SORT: Final = Argument(
    "sort",
    "generated:asc, the oldest first, or generated:desc, the newest first.",
    default="generated:asc",
    example="generated:desc",
)

ALL_TENANTS: Final = Argument(
    "all_tenants", "Whether an administrator asks for the events of all projects.", "boolean", default=False
)

ARGUMENTS: Final = Arguments(Q, LIMIT, MARKER, SORT, ALL_TENANTS)
OF_ONE: Final = Arguments(ALL_TENANTS)

TYPES: Final = {"text": "string"}
"""A trait's type in the lake → the API's name of it, if it is another."""


@router.get(
    "/v2/events",
    openapi_extra=ARGUMENTS.documented,
    responses={200: {"model": list[Event], "description": "The events"}},
)
async def list_events(asked: Annotated[Asked, allowed("telemetry:events:index")]) -> Response:
    """List events, the oldest first.

    `q` takes event_type and message_id with the operator eq, start_timestamp with ge, and end_timestamp with le; any
    other field is the name of a trait, with lt, le, eq, ne, ge or gt. A user sees the events whose traits project_id
    and user_id are its own; an administrator those of its project, and of none.
    """
    given = await ARGUMENTS.of(asked.request)
    scope = event_scope_of(asked.identity, all_tenants=given.boolean("all_tenants"))
    query = event_query(queries_of(given))
    limit, marker, sort = limit_of(given, asked.site.settings), marker_of(given), given.text("sort") or "generated"
    if sort not in ORDERS:
        raise invalid("sort", sort, "Write generated:asc or generated:desc")

    def found() -> list[dict[str, Any]]:
        after = None
        if marker is not None:
            last = event_by_id(asked.site, scope, marker)
            if last is None:
                raise unknown_marker("event", marker)
            after = (last["generated"], last["message_id"])
        page = EventPage(scope, query.conditions, query.start, query.end, limit, ORDERS[sort], after)
        return [_shown(row) for row in event_page(asked.site, page).to_pylist()]

    return await asked.answer(found)


@router.get(
    "/v2/events/{message_id}",
    openapi_extra=OF_ONE.documented,
    responses={200: {"model": Event, "description": "The event"}},
)
async def show_event(message_id: MessageId, asked: Annotated[Asked, allowed("telemetry:events:show")]) -> Response:
    """Show an event.

    If there is none of this id, or it is another's, the answer is 404.
    """
    given = await OF_ONE.of(asked.request)
    scope = event_scope_of(asked.identity, all_tenants=given.boolean("all_tenants"))
    if "\0" in message_id:
        raise not_found("Event", message_id)
    row = await asked.run(lambda: event_by_id(asked.site, scope, message_id))
    if row is None:
        raise not_found("Event", message_id)
    return answer(_shown(row))


def shown_trait(name: str, dtype: str, value: str) -> dict[str, str]:
    """A trait as it is answered. A time has no zone: it is in UTC."""
    if dtype == "datetime":
        value = value.removesuffix("Z").removesuffix("+00:00")
    return {"name": name, "type": TYPES.get(dtype, dtype), "value": value}


def _shown(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "message_id": row["message_id"],
        "event_type": row["event_type"],
        "generated": row["generated"],
        "traits": [shown_trait(each["name"], each["dtype"], each["value"]) for each in row["traits"] or ()],
        "raw": json.loads(row["raw"]) if row["raw"] else {},
    }
