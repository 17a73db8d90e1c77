"""The series and snapshots of metadata that get other ids, because these are made from the texts that change.

The warehouse has all of them: the catalog has followed all samples before. What is renamed is deleted there last, so a
run that was killed finds it again.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, func, or_, select

from meterhouse import identity
from meterhouse.errors import UsageError
from meterhouse.personal_data import Person
from meterhouse.stores.warehouse_tables import resource_metadata, resource_periods, series

DIMENSIONS: Final = ("source", "meter", "type", "unit", "resource_id", "project_id", "user_id")

USERS: Final = ("user_id", "resource_id")
"""The columns of points that may have the id of a user. A project is not renamed: bills are by project."""


@dataclass(frozen=True)
class Renamed:
    """Old id → what comes in its place.

    Attributes:
        series: rows of the warehouse's `series`.
        metadata: the id and the JSON text.
    """

    series: dict[int, dict[str, Any]] = field(default_factory=dict)
    metadata: dict[int, tuple[int, str]] = field(default_factory=dict)

    @property
    def series_ids(self) -> dict[int, int]:
        """Old id → new id of each series."""
        return {old: row["series_id"] for old, row in self.series.items()}

    @property
    def metadata_ids(self) -> dict[int, int]:
        """Old id → new id of each snapshot."""
        return {old: new for old, (new, _) in self.metadata.items()}


def renamed(connection: Connection, person: Person) -> Renamed:
    """What the warehouse has of a person.

    Args:
        connection: the warehouse.
        person: whose data is erased.

    Raises:
        UsageError: two series would become one: which of their points count would change.
    """
    found, old_of = Renamed(), dict[int, dict[str, Any]]()
    columns = [series.c[name] for name in USERS]
    for row in connection.execute(select(series).where(contains(columns, person, connection.dialect.name))):
        values = dict(row._mapping)
        changed = values | users_of(values, person)
        if changed != values:
            changed["series_id"] = identity.series_id(*(changed[name] for name in DIMENSIONS))
            found.series[row.series_id] = changed
            if (other := old_of.setdefault(changed["series_id"], values)) is not values:
                raise UsageError(_joined(other, values), hint="Leave a text out, and erase it as a user of its own")
    for metadata_id, text in connection.execute(
        select(resource_metadata).where(contains([resource_metadata.c.metadata], person, connection.dialect.name))
    ):
        without = person.body(text)
        if without != text:
            found.metadata[metadata_id] = identity.metadata_id(without.encode()), without
    return found


def refuse_joined(connection: Connection, person: Person) -> None:
    """Refuse texts that are all by which two resources differ.

    Raises:
        UsageError: two resources would become one, and usage would change.
    """
    found: dict[tuple[str, str], str] = {}
    key = resource_periods.c.resource_type, resource_periods.c.resource_id
    query = select(*key).where(contains(key[1:], person, connection.dialect.name)).distinct().order_by(*key)
    for kind, name in connection.execute(query):
        without = person.value(name)
        if without != name and found.setdefault((kind, without), name) != name:
            raise UsageError(
                f"the resources '{found[kind, without]}' and '{name}' of type {kind} would become one, and usage would "
                "change",
                hint="Leave a text out, and erase it as a user of its own",
            )


def _joined(one: dict[str, Any], other: dict[str, Any]) -> str:
    name = next(name for name in USERS if one[name] != other[name])
    these = sorted(str(each[name]) for each in (one, other))
    return (
        f"the series of the meter '{one['meter']}' of the {name.removesuffix('_id')}s '{these[0]}' and '{these[1]}' "
        "would become one, and figures would change"
    )


def users_of(values: dict[str, Any], person: Person) -> dict[str, str]:
    """The columns USERS of a row that have texts, without the person's data."""
    return {name: person.value(values[name]) for name in USERS if values.get(name) is not None}


def contains(columns: Sequence[ColumnElement[Any]], person: Person, dialect: str) -> ColumnElement[bool]:
    """A condition: one of the columns of texts may have personal data.

    Args:
        columns: the columns.
        person: whose data is erased.
        dialect: SQLAlchemy's name of the database.
    """
    place = func.instr if dialect == "sqlite" else func.strpos
    return or_(*(place(column, needle) > 0 for column in columns for needle in person.needles))
