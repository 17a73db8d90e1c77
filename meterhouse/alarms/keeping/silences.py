"""Silences and maintenance windows: alarms that do not notify for a while, by whom and why.

A silenced alarm is evaluated, and its transitions are in its history. Only its notifications are not sent, nor later.
"""

import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Any

from sqlalchemy import Connection, insert, select, update

from meterhouse import times
from meterhouse.alarms.definitions.alarm import SEVERITIES
from meterhouse.errors import UnknownKeyword, UnknownName, UsageError
from meterhouse.site import Site
from meterhouse.stores.warehouse_tables import alarm_silences


@dataclass(frozen=True)
class Silence:
    """A span in which some alarms do not notify.

    Attributes:
        name_glob: the names of the alarms; `*` and `?` stand for any text and any character.
        begins_at: from when, UTC.
        ends_at: until when, UTC.
        author: who.
        reason: why.
        project_id: alarms of this project only; None for all.
        severity: alarms of this severity only; None for all.
        silence_id: a unique id; made if empty.
    """

    name_glob: str
    begins_at: datetime
    ends_at: datetime
    author: str
    reason: str
    project_id: str | None = None
    severity: str | None = None
    silence_id: str = ""

    def holds_for(self, name: str, project_id: str, severity: str) -> bool:
        """Whether it is about an alarm."""
        return (
            (self.project_id is None or self.project_id == project_id)
            and (self.severity is None or self.severity == severity)
            and fnmatchcase(name, self.name_glob)
        )


def add(site: Site, silence: Silence) -> Silence:
    """Record a silence; return it with its id.

    Raises:
        UsageError: it has no span, no name, no author or no reason, or an unknown severity.
    """
    if silence.begins_at >= silence.ends_at:
        raise UsageError("the span is empty", hint="Let it end after it begins")
    for what, given in (("name", silence.name_glob), ("author", silence.author), ("reason", silence.reason)):
        if not given.strip():
            raise UsageError(f"the silence has no {what}", hint=f"Say the {what}")
    if silence.severity is not None and silence.severity not in SEVERITIES:
        raise UnknownKeyword("severity", silence.severity, list(SEVERITIES))
    made = Silence(**{**asdict(silence), "silence_id": str(uuid.uuid4())})
    with site.warehouse.begin() as connection:
        connection.execute(insert(alarm_silences).values(**asdict(made), created_at=times.now()))
    return made


def end(site: Site, silence_id: str) -> Silence:
    """End a silence now; one that has not begun never begins.

    Raises:
        UnknownName: there is no such silence.
    """
    moment = times.now()
    with site.warehouse.begin() as connection:
        row = connection.execute(select(alarm_silences).where(alarm_silences.c.silence_id == silence_id)).first()
        if row is None:
            ids = connection.execute(select(alarm_silences.c.silence_id)).scalars()
            raise UnknownName("silence", silence_id, list(ids))
        ended = update(alarm_silences).where(alarm_silences.c.silence_id == silence_id)
        values = {"ends_at": min(row.ends_at, moment), "begins_at": min(row.begins_at, moment)}
        connection.execute(ended.values(**values))
        return _silence({**row._mapping, **values})


def silences(site: Site, *, past: bool = False) -> list[Silence]:
    """The silences that hold or will hold, by their begin; with `past`, all of them."""
    query = select(alarm_silences).order_by(alarm_silences.c.begins_at, alarm_silences.c.silence_id)
    with site.warehouse.read() as connection:
        rows = connection.execute(query if past else query.where(alarm_silences.c.ends_at > times.now())).all()
    return [_silence(row._mapping) for row in rows]


def silencing(connection: Connection, moment: datetime) -> Callable[[str, str, str], str | None]:
    """A function of name, project and severity of an alarm: the id of the silence that holds for it, or None.

    Args:
        connection: the warehouse.
        moment: when, UTC.
    """
    query = select(alarm_silences).where(alarm_silences.c.begins_at <= moment, alarm_silences.c.ends_at > moment)
    found = [_silence(row._mapping) for row in connection.execute(query)]

    def of(name: str, project_id: str, severity: str) -> str | None:
        return next((each.silence_id for each in found if each.holds_for(name, project_id, severity)), None)

    return of


def _silence(row: Any) -> Silence:
    return Silence(**{name: row[name] for name in Silence.__dataclass_fields__})
