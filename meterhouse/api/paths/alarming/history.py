"""`/v2/alarms/{alarm_id}/history`: what happened to an alarm, and why."""

from dataclasses import asdict
from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Response

from meterhouse.alarms.explaining import explain
from meterhouse.alarms.keeping.listing import HISTORY, Page, has_history, history_of
from meterhouse.api.answers.faults import MAX_NAME, Fault
from meterhouse.api.answers.json_text import answer
from meterhouse.api.asked import Asked, allowed
from meterhouse.api.paths.alarming.alarms import NO_ARGUMENTS, AlarmPath
from meterhouse.api.paths.alarming.finding import unknown_alarm
from meterhouse.api.paths.alarming.models import Entry, Explanation
from meterhouse.api.paths.alarming.shown import entry_object
from meterhouse.api.paths.alarming.sorting import SORT, order_of
from meterhouse.api.requests.arguments import Arguments
from meterhouse.api.requests.metering_query import metering_query
from meterhouse.api.requests.paging import LIMIT, MARKER, limit_of, marker_of
from meterhouse.api.requests.simple_query import Q, queries_of
from meterhouse.errors import UnknownName
from meterhouse.filters import Fields

router = APIRouter(tags=["alarms"])

FIELDS: Final[Fields] = {
    name: HISTORY[name] for name in ("type", "severity", "user", "user_id", "project", "project_id")
}
"""By what the history can be filtered, beside timestamp and search_offset, as in Aodh 23."""

SORTED: Final = (*("event_id", "alarm_id", "on_behalf_of", "project_id", "user_id", "type", "timestamp", "severity"),)
"""By what the history can be ordered, as in Aodh 23."""

ARGUMENTS: Final = Arguments(Q, SORT, LIMIT, MARKER)


@router.get(
    "/v2/alarms/{alarm_id}/history",
    openapi_extra=ARGUMENTS.documented,
    responses={200: {"model": list[Entry], "description": "The entries"}},
)
async def history(alarm_id: AlarmPath, asked: Annotated[Asked, allowed("telemetry:alarm_history")]) -> Response:
    """List what happened to an alarm, newest first.

    The history of an alarm that was deleted stays. `q` takes type, severity, user_id and project_id (of whoever did
    it) with the operator eq, and timestamp with lt, le, gt and ge. The marker is an event_id.
    """
    given = await ARGUMENTS.of(asked.request)
    wanted = metering_query(queries_of(given), asked.identity, FIELDS)
    limit, order, marker = limit_of(given, asked.site.settings), order_of(given, SORTED), marker_of(given)
    page, caller = Page(limit, wanted.conditions, order, marker), asked.identity.caller

    def listed() -> list[dict[str, Any]]:
        if not has_history(asked.site, caller, alarm_id):
            raise unknown_alarm(alarm_id)
        return history_of(asked.site, caller, page, alarm_id=alarm_id, start=wanted.start, end=wanted.end)

    return answer([entry_object(row) for row in await asked.run(listed)])


@router.get(
    "/v2/alarms/{alarm_id}/history/{event_id}",
    responses={200: {"model": Explanation, "description": "What is behind the transition"}},
)
async def explained(
    alarm_id: AlarmPath,
    event_id: Annotated[str, Path(description="Id of a state transition in the alarm's history.")],
    asked: Annotated[Asked, allowed("telemetry:alarm_history")],
) -> Response:
    """Explain a transition of an alarm.

    It shows what decided: the values of the periods, the samples behind them, which of these the quality rules
    excluded, and the ids of the notifications that they came from. Neither Ceilometer nor Aodh has it.
    """
    await NO_ARGUMENTS.of(asked.request)
    caller = asked.identity.caller

    def made() -> dict[str, Any]:
        try:
            found = explain(asked.site, event_id, caller)
        except UnknownName:
            raise _unknown(event_id) from None
        if found.alarm_id != alarm_id:
            raise _unknown(event_id)
        return asdict(found)

    return answer(await asked.run(made))


def _unknown(event_id: str) -> Fault:
    return Fault(404, f"Transition {event_id[:MAX_NAME]} Not Found. The alarm's history lists their event_id")
