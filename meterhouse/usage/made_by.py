"""By what resources.yaml and units.yaml the periods of each month were made, in the warehouse.

A month is noted before its first evidence is appended, and keeps its fingerprint until the month is read again as a
whole. So a month that has evidence by other definitions is known.
"""

import json
from collections.abc import Collection
from datetime import date
from typing import Any

from sqlalchemy import Connection, delete, insert, select

from meterhouse import meanings, times
from meterhouse.definitions import resources as resources_file
from meterhouse.definitions import units as units_file
from meterhouse.definitions.meanings import Meaning, of_parts
from meterhouse.definitions.resources import Resources
from meterhouse.definitions.units import Units
from meterhouse.settings import Settings, variable
from meterhouse.site import Site
from meterhouse.stores.warehouse_tables import period_months

SETTINGS = ("sample_source", "nova_versioned")
"""The settings that decide on evidence."""


def meaning_of(resources: Resources, units: Units, given: Settings) -> Meaning:
    """All that decides on periods, beside notifications and roll-ups."""
    types: list[dict[str, Any]] = json.loads(resources.meaning)
    parts: list[tuple[str, str, Any]] = [
        (resources_file.FILE, f"resource {each['type']}", {key: each[key] for key in each if key != "description"})
        for each in types
    ]
    parts += [
        (units_file.FILE, f"unit {unit}", [of, str(factor)]) for unit, (of, factor) in sorted(units.factors.items())
    ]
    settings = ((variable(name), f"setting {variable(name)}", getattr(given, name)) for name in SETTINGS)
    return of_parts([*parts, *settings])


def meaning_now(site: Site) -> Meaning:
    """The meaning of the site's files.

    Raises:
        DefinitionError: a file cannot be read.
    """
    folder = site.settings.config_dir
    return meaning_of(resources_file.load(folder), units_file.load(folder), site.settings)


def note(connection: Connection, meaning: Meaning, months: Collection[date]) -> None:
    """Record the meaning for the months that have none yet; `months` are their first days."""
    starts = sorted(map(times.day_start, months))
    month = period_months.c.month
    known = set(connection.execute(select(month).where(month.in_(starts))).scalars())
    if new := [start for start in starts if start not in known]:
        fingerprint = meanings.record(connection, meaning)
        connection.execute(insert(period_months), [{"month": start, "fingerprint": fingerprint} for start in new])


def replace(connection: Connection, meaning: Meaning, months: Collection[date]) -> None:
    """Record the meaning for months that were read again as a whole; `months` are their first days."""
    connection.execute(delete(period_months).where(period_months.c.month.in_(list(map(times.day_start, months)))))
    note(connection, meaning, months)
