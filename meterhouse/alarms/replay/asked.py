"""The alarms that a replay is asked for: one of the warehouse, or those of a file, with all that they combine."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from sqlalchemy import select

from meterhouse import yaml_lines
from meterhouse.alarms.definitions import files
from meterhouse.alarms.definitions.alarm import Alarm, from_json, from_mapping
from meterhouse.alarms.definitions.ids import id_of
from meterhouse.alarms.definitions.rules.combination import CombinationRule
from meterhouse.alarms.keeping.callers import OPERATOR
from meterhouse.alarms.keeping.finding import find
from meterhouse.errors import DefinitionError, UnknownName, UsageError
from meterhouse.site import Site
from meterhouse.stores.warehouse_tables import alarms


def of_site(site: Site, wanted: str) -> tuple[str, dict[str, Alarm]]:
    """An alarm of the warehouse, by id or name: its id, and it and those that it combines, by id.

    Raises:
        UnknownName: there is none, or it combines one that does not exist.
        DefinitionError: its definition cannot work.
    """
    with site.warehouse.read() as connection:
        row = find(connection, wanted, OPERATOR)
    made = {row.alarm_id: from_json(row.definition)}
    _add_parts(site, made, {})
    return str(row.alarm_id), made


def of_file(site: Site, path: Path) -> tuple[list[str], dict[str, Alarm]]:
    """The alarms of a file: their ids, and they and those that they combine, by id.

    The file has a list `alarms`, as alarms.yaml, or the definition of one alarm.

    Raises:
        DefinitionError: the file cannot be read, or has an alarm that cannot work.
    """
    content: Any = yaml_lines.read(path, files.LIMITS)
    entries = content.get("alarms") if isinstance(content, dict) and "alarms" in content else [content]
    if not isinstance(entries, list) or not entries:
        raise DefinitionError("the file has no alarms", where=str(path), hint="Write a list under `alarms:`")
    declared = {}
    for entry in entries:
        alarm = from_mapping(entry, f"{path}:{getattr(entry, 'line', 1)}")
        declared[id_of(alarm.name)] = alarm
    made = dict(declared)
    _add_parts(site, made, declared)
    return list(declared), made


def one_of_file(site: Site, path: Path, name: str) -> tuple[str, dict[str, Alarm]]:
    """The alarm of a file that is to be compared with another: that of its name, or the only one.

    Raises:
        DefinitionError: the file cannot be read, or has an alarm that cannot work.
        UsageError: it has several, and none of the name.
    """
    ids, made = of_file(site, path)
    if id_of(name) in ids:
        return id_of(name), made
    if len(ids) > 1:
        raise UsageError(f"{path} has {len(ids)} alarms, and none is named '{name}'", hint="Leave one in the file")
    return ids[0], made


def enabled(alarm: Alarm) -> Alarm:
    """The alarm as it would be if it were enabled: a replay asks what it would have done."""
    return replace(alarm, enabled=True)


def _add_parts(site: Site, made: dict[str, Alarm], declared: Mapping[str, Alarm]) -> None:
    """Add the alarms that combinations join, and those that these join."""
    waiting = [each for alarm in made.values() for each in _parts(alarm)]
    with site.warehouse.read() as connection:
        while waiting:
            key = waiting.pop()
            if key in made:
                continue
            alarm = declared.get(key)
            if alarm is None:
                row = connection.execute(select(alarms.c.definition).where(alarms.c.alarm_id == key)).first()
                if row is None:
                    raise UnknownName("alarm", key, [])
                alarm = from_json(row.definition)
            made[key] = alarm
            waiting += _parts(alarm)


def _parts(alarm: Alarm) -> tuple[str, ...]:
    return alarm.rule.alarm_ids if isinstance(alarm.rule, CombinationRule) else ()
