"""`/v2/alarms/{alarm_id}/state`: the state of an alarm is shown and set."""

from typing import Annotated, Final, get_args

from fastapi import APIRouter, Response

from meterhouse.alarms.definitions.alarm import STATES
from meterhouse.alarms.keeping import managed
from meterhouse.alarms.keeping.finding import AlarmId
from meterhouse.alarms.keeping.states import one
from meterhouse.api.answers.faults import Fault
from meterhouse.api.answers.json_text import answer
from meterhouse.api.asked import Asked, allowed
from meterhouse.api.paths.alarming.alarms import NO_ARGUMENTS, AlarmPath
from meterhouse.api.paths.alarming.bodies import required
from meterhouse.api.paths.alarming.finding import found
from meterhouse.api.paths.alarming.models import State

router = APIRouter(tags=["alarms"])

_BODY: Final = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": {"type": "string", "enum": list(get_args(State))}}},
    }
}


@router.get("/v2/alarms/{alarm_id}/state", responses={200: {"model": State, "description": "The state"}})
async def state(alarm_id: AlarmPath, asked: Annotated[Asked, allowed("telemetry:get_alarm_state")]) -> Response:
    """Show the state of an alarm.

    It is a text of JSON: `"ok"`, `"alarm"` or `"insufficient data"`.
    """
    await NO_ARGUMENTS.of(asked.request)
    caller = asked.identity.caller

    def shown() -> str:
        with found(alarm_id):
            return str(one(asked.site, AlarmId(alarm_id), caller)["state"])

    return answer(await asked.run(shown))


@router.put(
    "/v2/alarms/{alarm_id}/state",
    openapi_extra=_BODY,
    responses={200: {"model": State, "description": "The state"}},
)
async def set_state(alarm_id: AlarmPath, asked: Annotated[Asked, allowed("telemetry:change_alarm_state")]) -> Response:
    """Set the state of an alarm.

    The body is a text of JSON: `"ok"`, `"alarm"` or `"insufficient data"`. Nobody is notified, and the next evaluation
    may change the state.
    """
    await NO_ARGUMENTS.of(asked.request)
    wanted, caller = await required(asked.request, "state"), asked.identity.caller
    if not isinstance(wanted, str) or wanted not in STATES:
        states = ", ".join(f'"{each}"' for each in STATES)
        raise Fault(400, f"state invalid. Write one of {states}, as a text of JSON")

    def changed() -> str:
        with found(alarm_id):
            return str(managed.set_state(asked.site, AlarmId(alarm_id), wanted, caller)["state"])

    return answer(await asked.run(changed))
