"""`/v2/query/alarms` and `/v2/query/alarms/history`: complex queries of alarms and of their history."""

from collections.abc import Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Response

from meterhouse.alarms.keeping.listing import ALARMS, HISTORY, Page, alarms_of, history_of
from meterhouse.api.answers.json_text import answer
from meterhouse.api.asked import Asked, allowed
from meterhouse.api.paths.alarming.alarms import NO_ARGUMENTS
from meterhouse.api.paths.alarming.bodies import required
from meterhouse.api.paths.alarming.models import AlarmShown, ComplexQuery, Entry, documented_body
from meterhouse.api.paths.alarming.shown import alarm_object, entry_object
from meterhouse.api.requests.complex_query import check_projects, complex_query
from meterhouse.filters import Fields

router = APIRouter(tags=["alarms"])


@router.post(
    "/v2/query/alarms",
    openapi_extra=documented_body(ComplexQuery),
    responses={200: {"model": list[AlarmShown], "description": "The alarms"}},
)
async def query_alarms(asked: Annotated[Asked, allowed("telemetry:query_alarm")]) -> Response:
    """List the alarms that meet a condition.

    An administrator sees those of all projects. Fields: alarm_id, name, description, type, enabled, severity, state,
    state_reason, repeat_actions, timestamp, state_timestamp, evaluate_timestamp, user_id, project_id. Operators: =, !=,
    <, <=, >, >=, =~, in, and, or, not. The one that was defined last comes first, if `orderby` does not say otherwise.
    """
    page = await _page(asked, ALARMS, ("project_id",))
    caller = asked.identity.caller
    rows = await asked.run(lambda: alarms_of(asked.site, caller, page), reads=True)
    return answer([alarm_object(row) for row in rows])


@router.post(
    "/v2/query/alarms/history",
    openapi_extra=documented_body(ComplexQuery),
    responses={200: {"model": list[Entry], "description": "The entries"}},
)
async def query_history(asked: Annotated[Asked, allowed("telemetry:query_alarm_history")]) -> Response:
    """List what happened to alarms, as far as it meets a condition.

    An administrator sees what happened in all projects, others what happened on behalf of their own. Fields: event_id,
    alarm_id, type, detail, severity, on_behalf_of, timestamp, user_id, project_id. The newest comes first, if `orderby`
    does not say otherwise.
    """
    page = await _page(asked, HISTORY, ("on_behalf_of",))
    caller = asked.identity.caller
    rows = await asked.run(lambda: history_of(asked.site, caller, page), reads=True)
    return answer([entry_object(row) for row in rows])


async def _page(asked: Asked, fields: Fields, projects: Sequence[str]) -> Page:
    """What a request asks for.

    Raises:
        Fault: it is no query (status 400), or names another project (401).
    """
    await NO_ARGUMENTS.of(asked.request)
    body: Any = await required(asked.request, "body")
    query = complex_query(body, fields, asked.site.settings)
    identity = asked.identity
    check_projects(query.condition, None if identity.is_admin else identity.project_id, projects)
    conditions = [] if query.condition is None else [query.condition]
    return Page(query.limit, conditions, [(each.field.column, each.descending) for each in query.order])
