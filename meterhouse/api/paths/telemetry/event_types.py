"""`/v2/event_types`: the types of events, and their traits."""

from typing import Annotated, Final

from fastapi import APIRouter, Response

from meterhouse.api.access.event_scopes import event_scope_of
from meterhouse.api.answers.faults import not_found
from meterhouse.api.asked import Asked, allowed
from meterhouse.api.paths.telemetry.events import TYPES, shown_trait
from meterhouse.api.paths.telemetry.models import Trait, TraitDescription
from meterhouse.api.paths.telemetry.names import EventType, TraitName
from meterhouse.api.requests.arguments import Arguments
from meterhouse.api.requests.paging import LIMIT, limit_of
from meterhouse.queries.event_pages import event_types, trait_values, traits_of

router = APIRouter(tags=["events"])

_NONE: Final = Arguments()
VALUES: Final = Arguments(LIMIT)


@router.get("/v2/event_types", responses={200: {"model": list[str], "description": "The types"}})
async def list_event_types(asked: Annotated[Asked, allowed("telemetry:get_event_types")]) -> Response:
    """List the types of events of all projects.

    It takes an administrator.
    """
    await _NONE.of(asked.request)
    scope = event_scope_of(asked.identity, all_tenants=True)
    return await asked.answer(lambda: event_types(asked.site, scope))


@router.get(
    "/v2/event_types/{event_type}/traits",
    responses={200: {"model": list[TraitDescription], "description": "The traits"}},
)
async def list_traits(event_type: EventType, asked: Annotated[Asked, allowed("telemetry:get_traits")]) -> Response:
    """List the traits that events of a type have.

    It takes an administrator. If there are no such events, the list is empty.
    """
    await _NONE.of(asked.request)
    _check(event_type)
    scope = event_scope_of(asked.identity, all_tenants=True)

    def listed() -> list[dict[str, str]]:
        found = traits_of(asked.site, scope, event_type)
        return [{"name": name, "type": TYPES.get(dtype, dtype)} for name, dtype in found]

    return await asked.answer(listed)


@router.get(
    "/v2/event_types/{event_type}/traits/{trait_name}",
    openapi_extra=VALUES.documented,
    responses={200: {"model": list[Trait], "description": "The trait of each event"}},
)
async def list_trait_values(
    event_type: EventType, trait_name: TraitName, asked: Annotated[Asked, allowed("telemetry:get_traits")]
) -> Response:
    """List the values that a trait has in events of a type, the oldest first.

    It takes an administrator.
    """
    given = await VALUES.of(asked.request)
    limit = limit_of(given, asked.site.settings)
    _check(event_type)
    scope = event_scope_of(asked.identity, all_tenants=True)

    def listed() -> list[dict[str, str]]:
        return [shown_trait(*each) for each in trait_values(asked.site, scope, event_type, trait_name, limit)]

    return await asked.answer(listed)


def _check(event_type: str) -> None:
    if "\0" in event_type:
        raise not_found("Event type", event_type)
