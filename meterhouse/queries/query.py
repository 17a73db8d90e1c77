"""Queries: samples and events of the lake, resources and meters of the warehouse, and ad-hoc SQL on either."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa
from sqlalchemy import func, select, text
from sqlalchemy.exc import DBAPIError

from meterhouse import times
from meterhouse.errors import MeterhouseError
from meterhouse.filters import FIELDS, OPERATORS, Filter
from meterhouse.queries.statistics import meter_span
from meterhouse.sample_quality.judge import judge, reason_names
from meterhouse.sample_quality.points import view_carried, view_points
from meterhouse.site import Site
from meterhouse.stores.duck import arrow, quoted
from meterhouse.stores.lake_tables import TABLES
from meterhouse.stores.warehouse_tables import resource_metadata, resources, series


def samples(
    site: Site,
    meter: str,
    *,
    query: Sequence[Filter] = (),
    start: datetime | None = None,
    end: datetime | None = None,
    limit: int = 100,
) -> pa.Table:
    """A meter's samples of a half-open span, newest first, with the names of the quality rules that each breaks.

    Raises:
        UnknownName: no series has this meter.
    """
    first, last = meter_span(site, meter)
    span = (start or first, end or last + timedelta(microseconds=1))
    conditions = [f"p.{FIELDS[f.field]} {OPERATORS[f.op]} {quoted(f.value)}" for f in query]
    with site.lake.connect() as duck:
        view_points(duck, site.lake, site.lake.version("samples"), [span], f"meter = {quoted(meter)}")
        view_carried(duck, site.lake, [span], site.settings.carry_hours)
        judge(duck, site.rules, site.settings.carry_hours)
        return arrow(
            duck,
            "SELECT printf('%016x', sample_id) AS id, meter, p.type, unit, volume, user_id, project_id, resource_id, "
            f"source, timestamp, recorded_at, {reason_names(site.rules, 'bits')} AS reasons "
            "FROM verdicts AS v JOIN (SELECT DISTINCT series_id, meter, type, unit, user_id, project_id, resource_id, "
            "source FROM points) AS p USING (series_id) "
            f"WHERE {' AND '.join(conditions) or 'true'} ORDER BY timestamp DESC, id LIMIT {int(limit)}",
        )


def events(
    site: Site,
    *,
    event_type: str | None = None,
    start: datetime | None = None,
    end: datetime | None = None,
    limit: int = 100,
) -> pa.Table:
    """Events of a half-open span, newest first; `event_type` is a glob."""
    conditions = ["true"]
    if event_type:
        conditions.append(f"event_type GLOB {quoted(event_type)}")
    if start:
        conditions.append(f"generated >= '{times.text(start)}'")
    if end:
        conditions.append(f"generated < '{times.text(end)}'")
    with site.lake.connect() as duck:
        site.lake.view(duck, "events", site.lake.files("events"))
        return arrow(
            duck,
            "SELECT DISTINCT ON (generated, message_id) message_id, event_type, generated, traits FROM events "
            f"WHERE {' AND '.join(conditions)} ORDER BY generated DESC, message_id LIMIT {int(limit)}",
        )


def resource_list(site: Site, limit: int = 100) -> list[dict[str, Any]]:
    """Resources as their newest sample shows them, the latest first."""
    query = (
        select(resources, resource_metadata.c.metadata)
        .outerjoin(resource_metadata, resource_metadata.c.metadata_id == resources.c.metadata_id)
        .order_by(resources.c.last_sample_at.desc(), resources.c.resource_id)
        .limit(limit)
    )
    with site.warehouse.read() as connection:
        return [{k: v for k, v in row._mapping.items() if k != "metadata_id"} for row in connection.execute(query)]


def meter_list(site: Site) -> list[dict[str, Any]]:
    """Meters by name, with their type, unit, number of series and times."""
    query = (
        select(
            series.c.meter,
            series.c.type,
            series.c.unit,
            func.count().label("series"),
            func.min(series.c.first_seen).label("first_seen"),
            func.max(series.c.last_seen).label("last_seen"),
        )
        .group_by(series.c.meter, series.c.type, series.c.unit)
        .order_by(series.c.meter)
    )
    with site.warehouse.read() as connection:
        return [dict(row._mapping) for row in connection.execute(query)]


def sql_on_lake(site: Site, query: str) -> pa.Table:
    """Any SQL of DuckDB on the lake; its tables are views of their names.

    Raises:
        MeterhouseError: DuckDB does not take the query.
    """
    import duckdb

    with site.lake.connect() as duck:
        for name in TABLES:
            site.lake.view(duck, name, site.lake.files(name))
        try:
            found = duck.sql(query)
            if found is None:
                raise MeterhouseError("the query gives no rows", where="SQL on the lake", hint="Write a SELECT")
            return found.to_arrow_table()
        except duckdb.Error as error:
            raise _refused(error, "lake") from None


def sql_on_warehouse(site: Site, query: str) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Any reading SQL on the warehouse.

    Raises:
        MeterhouseError: the database does not take the query.
    """
    with site.warehouse.read() as connection:
        try:
            connection.execute(
                text("PRAGMA query_only = ON" if site.warehouse.is_sqlite else "SET TRANSACTION READ ONLY")
            )
            found = connection.execute(text(query.replace(":", "\\:")))
            if not found.returns_rows:
                raise MeterhouseError("the query gives no rows", where="SQL on the warehouse", hint="Write a SELECT")
            return list(found.keys()), [tuple(row) for row in found.all()]
        except DBAPIError as error:
            raise _refused(error.orig or error, "warehouse") from None
        finally:
            if site.warehouse.is_sqlite:
                connection.execute(text("PRAGMA query_only = OFF"))


def _refused(error: BaseException, store: str) -> MeterhouseError:
    said = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
    return MeterhouseError(
        said.strip().rstrip("."), where=f"SQL on the {store}", hint="`meterhouse sql --help` lists the tables"
    )
