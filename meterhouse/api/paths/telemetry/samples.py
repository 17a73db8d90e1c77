"""`/v2/samples`, `/v2/meters/{meter_name}` and `/v2/query/samples`: samples."""

from collections.abc import Callable
from typing import Annotated, Any, Final

import pyarrow as pa
from fastapi import APIRouter, Response

from meterhouse.api.answers.faults import not_found
from meterhouse.api.answers.json_text import answer
from meterhouse.api.answers.metadata import flat
from meterhouse.api.asked import Asked, allowed
from meterhouse.api.paths.telemetry.models import ComplexQuery, OldSample, Sample
from meterhouse.api.paths.telemetry.names import MeterName, SampleId
from meterhouse.api.requests.arguments import Argument, Arguments
from meterhouse.api.requests.bodies import json_body
from meterhouse.api.requests.complex_query import check_projects, complex_query
from meterhouse.api.requests.metering_query import MEASURES as SIMPLE
from meterhouse.api.requests.metering_query import metering_query
from meterhouse.api.requests.paging import LIMIT, MARKER, limit_of, marker_of, unknown_marker
from meterhouse.api.requests.simple_query import Q, queries_of
from meterhouse.errors import UsageError
from meterhouse.queries.sample_ids import point_of
from meterhouse.queries.sample_order import Order
from meterhouse.queries.samples import MEASURES, find_samples, sample_by_id
from meterhouse.queries.snapshots import Snapshots
from meterhouse.site import Site
from meterhouse.times import micros

router = APIRouter(tags=["samples"])

INCLUDE_EXCLUDED: Final = Argument(
    "include_excluded",
    "Whether to list the samples too that the quality rules exclude. Their `reasons` say which rules.",
    "boolean",
    default=True,
    example="False",
)

ARGUMENTS: Final = Arguments(Q, LIMIT, MARKER, INCLUDE_EXCLUDED)
_NONE: Final = Arguments()

Row = dict[str, Any]


@router.get(
    "/v2/samples",
    openapi_extra=ARGUMENTS.documented,
    responses={200: {"model": list[Sample], "description": "The samples"}},
)
async def list_samples(asked: Annotated[Asked, allowed("telemetry:get_samples")]) -> Response:
    """List samples of all meters, newest first.

    `q` takes user_id, project_id, resource_id, meter, source, message_id and metadata.KEY, with the operator eq,
    timestamp with lt, le, gt and ge, and search_offset.
    """
    return await _listed(asked, None, _sample)


@router.get(
    "/v2/samples/{sample_id}",
    responses={200: {"model": Sample, "description": "The sample"}},
)
async def show_sample(sample_id: SampleId, asked: Annotated[Asked, allowed("telemetry:get_sample")]) -> Response:
    """Show a sample. Its `id` is the one that was asked for.

    The id is that which lists show, or the message_id that a sample came with. Compacted files keep none of gauges and
    counters: then it is 404.
    """
    await _NONE.of(asked.request)
    site, scope = asked.site, asked.identity.scope

    def found() -> Row | None:
        try:
            rows = sample_by_id(site, scope, sample_id)
        except UsageError:
            return None
        return next((_named(row, sample_id) for row in _shown(site, rows, _sample)), None)

    shown = await asked.run(found)
    if shown is None:
        raise not_found("Sample", sample_id)
    return answer({**shown, "id": sample_id})


@router.get(
    "/v2/meters/{meter_name:path}",
    openapi_extra=ARGUMENTS.documented,
    responses={200: {"model": list[OldSample], "description": "The samples"}},
)
async def list_samples_of_meter(
    meter_name: MeterName, asked: Annotated[Asked, allowed("telemetry:get_samples")]
) -> Response:
    """List samples of a meter, newest first.

    `q` takes the fields that it takes for the samples of all meters.
    """
    return await _listed(asked, meter_name, _old_sample)


@router.post(
    "/v2/query/samples",
    openapi_extra={"requestBody": {"content": {"application/json": {"schema": ComplexQuery.model_json_schema()}}}},
    responses={200: {"model": list[Sample], "description": "The samples"}},
)
async def query_samples(asked: Annotated[Asked, allowed("telemetry:query_sample")]) -> Response:
    """List samples of all meters by a complex query.

    The filter joins comparisons by `and`, `or` and `not`. They compare user_id, project_id, resource_id, source,
    meter, type, unit, volume, timestamp, recorded_at, message_id or metadata.KEY by =, !=, <, <=, >, >=, =~ or in.
    Without `orderby` the newest come first.
    """
    await _NONE.of(asked.request)
    site, scope = asked.site, asked.identity.scope
    query = complex_query(await json_body(asked.request), MEASURES, site.settings)
    check_projects(query.condition, scope.project_id)

    def found() -> list[Row]:
        conditions = [] if query.condition is None else [query.condition]
        order = [Order(each.field, each.descending) for each in query.order]
        return _shown(site, find_samples(site, scope, query=conditions, order=order, limit=query.limit), _sample)

    return await asked.answer(found)


async def _listed(asked: Asked, meter: str | None, show: Callable[[Row, dict[str, str]], Row]) -> Response:
    given = await ARGUMENTS.of(asked.request)
    site, scope = asked.site, asked.identity.scope
    query = metering_query(queries_of(given), asked.identity, SIMPLE)
    limit, marker = limit_of(given, site.settings), marker_of(given)
    everything = given.boolean("include_excluded", True)

    def found() -> list[Row]:
        after = None if marker is None else _place(asked, marker)
        rows = find_samples(
            site,
            scope,
            meter=meter,
            query=query.conditions,
            start=query.start,
            end=query.end,
            limit=limit,
            after=after,
            good_only=not everything,
        )
        return _shown(site, rows, show)

    return await asked.answer(found)


def _place(asked: Asked, marker: str) -> tuple[int, str]:
    """Where the sample of an id is among those that are newest first."""
    try:
        rows = sample_by_id(asked.site, asked.identity.scope, marker).to_pylist()
    except UsageError:
        rows = []
    if not rows:
        raise unknown_marker("sample", marker)
    return micros(rows[-1]["timestamp"]), rows[-1]["id"]


def _shown(site: Site, rows: pa.Table, show: Callable[[Row, dict[str, str]], Row]) -> list[Row]:
    """Samples, columns FOUND, as they are answered."""
    listed = rows.to_pylist()
    ids = [row["metadata_id"] for row in listed]
    parsed = Snapshots(site).parsed({each for each in ids if each is not None})
    flattened = {each: flat(metadata) for each, metadata in parsed.items()}
    return [show(row, flattened.get(each, {})) for row, each in zip(listed, ids, strict=True)]


def _sample(row: Row, metadata: dict[str, str]) -> Row:
    shown = {name: row[name] for name in Sample.model_fields if name in row and name != "reasons"}
    return {**shown, "metadata": metadata, **_reasons(row)}


def _named(row: Row, asked: str) -> Row:
    """A sample by the id that was asked for, if it is a delta: it has that of its message."""
    return {**row, "id": asked} if row["type"] == "delta" and point_of(asked) is None else row


def _old_sample(row: Row, metadata: dict[str, str]) -> Row:
    return {
        "counter_name": row["meter"],
        "counter_type": row["type"],
        "counter_unit": row["unit"],
        "counter_volume": row["volume"],
        **{name: row[name] for name in ("resource_id", "project_id", "user_id", "source", "timestamp", "recorded_at")},
        "resource_metadata": metadata,
        "message_id": row["id"],
        **_reasons(row),
    }


def _reasons(row: Row) -> Row:
    """The rules that a sample breaks, if any: samples that break none look as Ceilometer's."""
    return {"reasons": row["reasons"]} if row["reasons"] else {}
