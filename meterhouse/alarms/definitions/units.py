"""An alarm reads one unit: series with different units have no common statistic."""

from sqlalchemy import Connection, exists, func, select

from meterhouse.alarms.definitions.alarm import Alarm
from meterhouse.filters import fields_of, on_warehouse
from meterhouse.filters.fields import METADATA
from meterhouse.stores.warehouse_tables import series


def meters_of_several(connection: Connection) -> frozenset[str]:
    """The meters that have series with different units: only their alarms can read several."""
    query = select(series.c.meter).group_by(series.c.meter)
    units = func.count(func.distinct(func.coalesce(series.c.unit, "")))
    return frozenset(connection.execute(query.having(units > 1)).scalars())


def is_of_several(connection: Connection, meter: str) -> bool:
    """Whether a meter has series with different units; only the ends of an index are read."""
    of_meter = select(series.c.unit).where(series.c.meter == meter)
    known = of_meter.where(series.c.unit.is_not(None))
    ends = (known.order_by(series.c.unit), known.order_by(series.c.unit.desc()))
    lowest, highest = (each.limit(1).scalar_subquery() for each in ends)
    found = connection.execute(select(lowest, highest, exists(of_meter.where(series.c.unit.is_(None))))).one()
    return len({unit or "" for unit in (found[0], found[1], "" if found[2] else found[1])}) > 1


def refusal(connection: Connection, alarm: Alarm) -> tuple[str, str] | None:
    """Why the warehouse's series cannot be evaluated together, and what to do; None if they can.

    A condition on metadata is about points; the evaluation looks at their units.
    """
    for wanted in alarm.rule.wanted():
        condition = wanted.condition
        if any(field.column == METADATA for field in fields_of(condition)):
            continue
        met = on_warehouse(condition, lambda field: series.c[field.column])
        query = select(series.c.unit).where(series.c.meter == wanted.meter_name, met).distinct()
        units = sorted(unit or "" for unit in connection.execute(query).scalars())
        if len(units) > 1:
            return mixed(units[0], units[-1])
    return None


def mixed(one: str, other: str) -> tuple[str, str]:
    """What is wrong with an alarm that reads two units, and what to do. An empty unit is none."""
    named = " and ".join(unit or "none" for unit in (one, other))
    hint = f"Name one in its query, such as {{field: unit, op: eq, value: {one or other}}}"
    return f"reads series with different units: {named}", hint
