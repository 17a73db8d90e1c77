"""`/v2/metrics`: what Aodh counts of evaluations, if it is told to."""

from typing import Annotated, Final

from fastapi import APIRouter, Response

from meterhouse.api.answers.faults import Fault
from meterhouse.api.asked import Asked, allowed
from meterhouse.api.requests.arguments import Argument, Arguments

router = APIRouter(tags=["alarms"])

ARGUMENTS: Final = Arguments(Argument("all_projects", "Whether those of all projects are wanted.", "boolean"))


@router.get(
    "/v2/metrics",
    openapi_extra=ARGUMENTS.documented,
    responses={403: {"description": "It is disabled"}},
)
async def metrics(asked: Annotated[Asked, allowed("telemetry:get_metrics")]) -> Response:
    """Refuse to count the outcomes of evaluations.

    Aodh counts them only if it is told to, and answers the same otherwise. The history of each alarm has its
    transitions, and `GET /metrics` the number of alarms in each state.
    """
    await ARGUMENTS.of(asked.request)
    raise Fault(403, "metrics endpoint is disabled. GET /metrics has the number of alarms in each state")
