"""`/v2/meters/{meter_name}/statistics`: figures of a meter's good points."""

from typing import Annotated, Any, Final

from fastapi import APIRouter, Response

from meterhouse.api.answers.faults import Fault, invalid
from meterhouse.api.answers.json_text import answer
from meterhouse.api.asked import Asked, allowed
from meterhouse.api.paths.telemetry.models import Statistics
from meterhouse.api.paths.telemetry.names import MeterName
from meterhouse.api.paths.telemetry.statistics_entries import entries
from meterhouse.api.requests.aggregates import (
    AGGREGATE,
    GROUPBY,
    INCLUDE_EXCLUDED,
    PERIOD,
    TIMEZONE,
    aggregates_of,
    groups_of,
    names_of,
    period_of,
)
from meterhouse.api.requests.arguments import Arguments
from meterhouse.api.requests.metering_query import MEASURES, metering_query
from meterhouse.api.requests.simple_query import Q, queries_of
from meterhouse.errors import UnknownKeyword, UnknownName, UsageError
from meterhouse.filters import Filter, fields_of
from meterhouse.queries.periods import zone_of
from meterhouse.queries.statistics import Question, explained

router = APIRouter(tags=["statistics"])

ARGUMENTS: Final = Arguments(Q, PERIOD, GROUPBY, AGGREGATE, TIMEZONE, INCLUDE_EXCLUDED)

MAX_ROWS: Final = 100_000
"""Maximum number of periods and groups of an answer."""

_FIELDS: Final = {name: field for name, field in MEASURES.items() if name != "message_id"}


@router.get(
    "/v2/meters/{meter_name:path}/statistics",
    openapi_extra=ARGUMENTS.documented,
    responses={200: {"model": list[Statistics], "description": "The figures"}},
)
async def compute_statistics(
    meter_name: MeterName, asked: Annotated[Asked, allowed("telemetry:compute_statistics")]
) -> Response:
    """Compute statistics of a meter's good points.

    There is one entry for each period and group that has points, ordered by period; a period without points is left
    out. Points in different units are never put together. `q` takes the fields of samples but message_id; metadata.KEY
    is what came with the samples.
    """
    given = await ARGUMENTS.of(asked.request)
    queries = queries_of(given)
    if any(each.field == "message_id" for each in queries):
        raise invalid(
            "field", "message_id", "Statistics are of many samples. Ask /v2/samples for one by its message_id"
        )
    found = metering_query(queries, asked.identity, _FIELDS)
    aggregates, groups, period = aggregates_of(given), groups_of(given), period_of(given)
    everything = given.boolean("include_excluded")
    if everything and {"increase", "rate"} & {each.func for each in aggregates}:
        raise invalid("include_excluded", "True", "The aggregates increase and rate are of good points only")
    of_meter = [each for each in found.conditions if "meter" in {field.column for field in fields_of(each)}]
    question = Question(
        asked.identity.scope,
        meter_name,
        query=[each for each in found.conditions if each not in of_meter],
        period=period,
        timezone=_zone(given.text("timezone") or "UTC"),
        anchor=found.anchor,
        groupby=list(dict.fromkeys(groups.values())),
        aggregate=names_of(aggregates),
        start=found.start,
        end=found.end,
        own_metadata=True,
        include_excluded=everything,
    )
    other = any(isinstance(each, Filter) and each.value != meter_name for each in of_meter)
    if other or (found.start is not None and found.end is not None and found.start >= found.end):
        return answer([])

    def computed() -> list[dict[str, Any]]:
        try:
            rows, _ = explained(asked.site, question)
        except UnknownKeyword:
            raise
        except UnknownName:  # no series of this meter has points
            return []
        if len(rows) > MAX_ROWS:
            raise Fault(400, f"The answer has {len(rows):,} entries. Ask for longer periods, or fewer groups")
        return entries(rows, aggregates, groups, found.asked)

    return await asked.answer(computed)


def _zone(name: str) -> str:
    try:
        zone_of(name)
    except UsageError:
        raise invalid("timezone", name, "There is none of this name. Write one such as Europe/Berlin") from None
    return name
