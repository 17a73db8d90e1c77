"""An alarm reads one unit: series with different units have no common statistic."""

from sqlalchemy import Connection, select

from meterhouse.alarms.definitions.alarm import Alarm
from meterhouse.filters import on_warehouse
from meterhouse.stores.warehouse_tables import series


def refusal(connection: Connection, alarm: Alarm) -> tuple[str, str] | None:
    """Why the warehouse's series cannot be evaluated together, and what to do; None if they can."""
    met = on_warehouse(alarm.rule.condition, lambda field: series.c[field.column])
    query = select(series.c.unit).where(series.c.meter == alarm.rule.meter_name, met).distinct()
    units = sorted(unit or "" for unit in connection.execute(query).scalars())
    return mixed(units[0], units[-1]) if len(units) > 1 else None


def mixed(one: str, other: str) -> tuple[str, str]:
    """What is wrong with an alarm that reads two units, and what to do. An empty unit is none."""
    named = " and ".join(unit or "none" for unit in (one, other))
    hint = f"Name one in its query, such as {{field: unit, op: eq, value: {one or other}}}"
    return f"reads series with different units: {named}", hint
