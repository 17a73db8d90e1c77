"""What is wrong, or will not work as one might think, with alarms beside each other and beside the site's meters."""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from sqlalchemy import Connection, func, select

from meterhouse import yaml_lines
from meterhouse.alarms.definitions import actions
from meterhouse.alarms.definitions.alarm import Alarm
from meterhouse.alarms.definitions.rules.combination import CombinationRule
from meterhouse.alarms.definitions.wanted import Wanted
from meterhouse.errors import near_misses
from meterhouse.filters import fields_of, on_warehouse
from meterhouse.filters.fields import METADATA
from meterhouse.shipped import DEFAULTS
from meterhouse.site import Site
from meterhouse.stores.warehouse_tables import alarms, series

Combined = Mapping[str, Sequence[str]]
"""Id of an alarm → the ids of the alarms that it combines; none if it is no combination."""


def combinations(connection: Connection, without_origin: str = "") -> dict[str, tuple[str, ...]]:
    """The warehouse's alarms, but for those of an origin, with what they combine."""
    others = select(alarms.c.alarm_id, alarms.c.type, alarms.c.definition).where(alarms.c.origin != without_origin)
    found: dict[str, tuple[str, ...]] = dict.fromkeys(
        connection.execute(others.with_only_columns(alarms.c.alarm_id)).scalars(), ()
    )
    for row in connection.execute(others.where(alarms.c.type == CombinationRule.TYPE)):
        found[row.alarm_id] = _parts(row.definition)
    return found


def combined_by(connection: Connection, alarm_ids: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """The alarms of some ids that there are, with what they combine, and so on from these.

    Args:
        connection: the warehouse.
        alarm_ids: the ids to begin with.
    """
    found: dict[str, tuple[str, ...]] = {}
    waiting, asked = list(dict.fromkeys(alarm_ids)), set[str]()
    while waiting:
        some, waiting = waiting[:_AT_ONCE], waiting[_AT_ONCE:]
        asked.update(some)
        query = select(alarms.c.alarm_id, alarms.c.type, alarms.c.definition).where(alarms.c.alarm_id.in_(some))
        for row in connection.execute(query):
            found[row.alarm_id] = _parts(row.definition) if row.type == CombinationRule.TYPE else ()
            more = dict.fromkeys(part for part in found[row.alarm_id] if part not in asked)
            asked.update(more)
            waiting += more
    return found


_AT_ONCE: Final = 500
"""How many ids a query lists; databases bound the parameters of a query."""


def _parts(definition: str) -> tuple[str, ...]:
    """What a stored combination combines."""
    try:
        return tuple(map(str, json.loads(definition)["rule"]["alarm_ids"]))
    except (ValueError, KeyError, TypeError):  # damaged: its evaluation says so
        return ()


def refused_combinations(declared: Mapping[str, Alarm], others: Combined) -> list[tuple[str, str, str]]:
    """The combinations that cannot be evaluated: of an alarm that does not exist, or in a circle.

    Args:
        declared: the alarms to check, by id.
        others: the alarms beside them.

    Returns:
        (alarm_id, what is wrong, what to do) of each.
    """
    combined = {key: tuple(value) for key, value in others.items()} | {
        key: alarm.rule.alarm_ids if isinstance(alarm.rule, CombinationRule) else () for key, alarm in declared.items()
    }
    names = {key: alarm.name for key, alarm in declared.items()}
    found = []
    for key, alarm in declared.items():
        missing = [each for each in combined[key] if each not in combined]
        if missing:
            what = f"alarm '{alarm.name}' combines the alarm {missing[0]}, which does not exist"
            found.append((key, what, "Correct the name or the id; `meterhouse alarms list` has all"))
        elif combined[key] and (circle := _circle(key, combined)):
            through = " → ".join(names.get(each, each) for each in circle)
            found.append((key, f"alarm '{alarm.name}' combines itself: {through}", "Break the circle"))
    return found


def _circle(start: str, combined: Combined) -> list[str]:
    """A way from an alarm back to itself; empty if there is none."""
    came_from: dict[str, str] = {}
    waiting = [start]
    while waiting:
        each = waiting.pop()
        for part in combined.get(each, ()):
            if part == start:
                way = [start, each]
                while way[-1] != start:
                    way.append(came_from[way[-1]])
                return way[::-1] if len(way) > 2 or each != start else [start, start]
            if part not in came_from:
                came_from[part] = each
                waiting.append(part)
    return []


MAX_SHORT: Final = 100
"""Maximum number of warnings of short periods: each asks the catalog for the alarm's series."""


def warnings(site: Site, given: Sequence[Alarm]) -> list[str]:
    """What will not work as one might think: meters that nobody knows, periods shorter than a meter's cadence.

    It is no fault: a meter may come later.
    """
    if not given:
        return []
    with site.warehouse.read() as connection:
        query = select(series.c.meter, func.min(series.c.cadence_s).label("cadence")).group_by(series.c.meter)
        cadences = {row.meter: row.cadence for row in connection.execute(query)}
    unknown: dict[str, list[str]] = {}
    short: dict[tuple[str, int], list[str]] = {}
    for alarm in given:
        for meter in alarm.rule.meters:
            if meter not in cadences:
                unknown.setdefault(meter, []).append(alarm.name)
        for window in alarm.rule.wanted():
            cadence = cadences.get(window.meter_name) or 0
            if window.period < cadence and len(short) < MAX_SHORT and _has_series(site, window):
                short.setdefault((window.meter_name, window.period), []).append(alarm.name)
    known = sorted({*cadences, *_declared(site)}) if unknown else []
    found = [text for alarm in given for text in _of_actions(alarm)]
    for meter, names in unknown.items():
        if meter not in known:
            near = near_misses(meter, known)
            hint = f"; did you mean {' or '.join(near[:2])}?" if near else ""
            found.append(f"{_of(names)} the meter {meter}, which this site does not know{hint}")
    for (meter, period), names in short.items():
        found.append(
            f"{_of(names)} {meter} by periods of {period} s, but its points come every {cadences[meter]:g} s: most "
            "periods will be empty"
        )
    return found


def _has_series(site: Site, window: Wanted) -> bool:
    """Whether there are series that a window reads, whose cadence is known; of metadata, the points decide."""
    condition = window.condition
    if any(field.column == METADATA for field in fields_of(condition)):
        return True
    met = on_warehouse(condition, lambda field: series.c[field.column])
    query = select(series.c.series_id).where(series.c.meter == window.meter_name, series.c.cadence_s.is_not(None), met)
    with site.warehouse.read() as connection:
        return connection.execute(query.limit(1)).first() is not None


def _of_actions(alarm: Alarm) -> list[str]:
    names = ("ok_actions", "alarm_actions", "insufficient_data_actions")
    return actions.warnings(alarm.name, {name: getattr(alarm, name) for name in names})


def _of(names: Sequence[str]) -> str:
    more = f" and {len(names) - 1:,} more" if len(names) > 1 else ""
    return f"alarm '{names[0]}'{more} read{'s' if len(names) == 1 else ''}"


def _declared(site: Site) -> Iterable[str]:
    """The meters that definitions may make, whether one came or not."""
    from meterhouse.collection import stream_meters
    from meterhouse.definitions.derived_meters import load
    from meterhouse.polling import poll_meters

    yield from stream_meters.METERS
    yield from poll_meters.METERS
    yield from (each.name for each in load(site.settings.config_dir).definitions)
    yield from (meter.name for meter in site.definitions.meters.meters)
    listed = yaml_lines.read(DEFAULTS / "polled_meters.yaml")
    yield from (str(meter[0]) for group in listed.values() for meter in group)
