"""`/v2/capabilities`: what the API can do, for clients that look before they ask."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final

from fastapi import APIRouter, Response

from meterhouse.api.answers.json_text import answer
from meterhouse.api.asked import Asked, allowed
from meterhouse.api.paths.telemetry.models import Capabilities
from meterhouse.api.requests.arguments import Arguments

router = APIRouter(tags=["capabilities"])

_QUERY: Final = {"simple": True, "metadata": True}
_SELECTABLE: Final = ("max", "min", "sum", "avg", "count", "stddev", "cardinality")

API: Final[Mapping[str, Any]] = {
    "meters": {"pagination": True, "query": {**_QUERY, "complex": False}},
    "resources": {"pagination": True, "query": {**_QUERY, "complex": False}},
    "samples": {"pagination": True, "groupby": False, "query": {**_QUERY, "complex": True}},
    "statistics": {
        "pagination": False,
        "groupby": True,
        "query": {**_QUERY, "complex": False},
        "aggregation": {"standard": True, "selectable": {**dict.fromkeys(_SELECTABLE, True), "quartile": False}},
    },
    "alarms": {
        "query": {"simple": True, "complex": True},
        "history": {"query": {"simple": True, "complex": True}},
    },
    "events": {"query": {"simple": True}},
}
"""The names are Ceilometer's."""

_NONE: Final = Arguments()


def flags(of: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, bool]]:
    """Capabilities within each other, flat: `statistics:aggregation:standard`."""
    for name, value in of.items():
        if isinstance(value, Mapping):
            yield from flags(value, f"{before}{name}:")
        else:
            yield f"{before}{name}", value


_STORED: Final = {"storage:production_ready": True}
_ANSWER: Final = {
    "api": dict(flags(API)),
    "storage": _STORED,
    "event_storage": _STORED,
    "alarm_storage": _STORED,
}


@router.get("/v2/capabilities", responses={200: {"model": Capabilities, "description": "The capabilities"}})
async def list_capabilities(asked: Annotated[Asked, allowed("telemetry:get_capabilities")]) -> Response:
    """Say what the API can do.

    A flag is true if clients can rely on it. The names are Ceilometer's, joined by colons.
    """
    await _NONE.of(asked.request)
    return answer(_ANSWER)
