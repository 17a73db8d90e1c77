"""Explains a transition of an alarm: from the values that decided on to the samples and the notifications behind them.

Samples do not keep the message that they were made of. The lake keeps the messages: those of the hours in which the
samples arrived are converted once more, and what yields the same sample is where it came from.
"""

import json
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.compute as pc
from sqlalchemy import Connection, Row, select

from meterhouse import times
from meterhouse.alarms.definitions.alarm import Alarm, from_json
from meterhouse.alarms.definitions.wanted import Wanted
from meterhouse.alarms.keeping.callers import Caller
from meterhouse.definitions import derived_meters
from meterhouse.errors import DefinitionError, UnknownName
from meterhouse.queries.samples import samples
from meterhouse.scopes import EVERYTHING, Scope
from meterhouse.site import Site
from meterhouse.stores.lake_faults import retried
from meterhouse.stores.lake_tables import TIME
from meterhouse.stores.warehouse_tables import alarm_history, alarms

if TYPE_CHECKING:
    from meterhouse.conversion.convert import Converter

SAMPLES: Final = 200
"""How many samples of a window are shown at most, the newest ones."""

_SHOWN: Final = (
    *("meter", "type", "unit", "volume", "resource_id", "project_id", "user_id", "source", "timestamp", "recorded_at"),
)
_AT_ONCE: Final = 20_000
_CONVERTED: Final = 512
"""How many notifications are converted together at most."""

Identity = tuple[str, datetime, float | None, str | None]
"""Meter, timestamp, volume (None: not a number) and resource of a sample."""

_IDENTIFYING: Final = ["meter", "timestamp", "volume", "resource_id"]
_MICROSECOND: Final = timedelta(microseconds=1)


@dataclass
class Explained:
    """A transition, and what is behind it.

    Attributes:
        event_id: its id.
        alarm_id: the alarm.
        name: its name then.
        timestamp: when it was evaluated, UTC.
        state: the state from then on.
        reason: why.
        windows: what decided, of each window: meter, period, values, starts, points, excluded and series.
        samples: of each window, the samples that were known then, newest first: as `meterhouse samples` lists them,
            with `message_ids` of the notifications, and `excluded`: the quality rules that each breaks. Those of a
            derived meter are followed by those of the meters that it is computed from.
        event: of an event alarm, the event.
        alarms: of a combination, the ids of the alarms that it combines.
    """

    event_id: str
    alarm_id: str
    name: str
    timestamp: datetime
    state: str
    reason: str
    windows: list[dict[str, Any]] = field(default_factory=list)
    samples: list[dict[str, Any]] = field(default_factory=list)
    event: Mapping[str, Any] | None = None
    alarms: Sequence[str] = ()


def explain(site: Site, event_id: str, caller: Caller) -> Explained:
    """Explain a transition, by the id of its entry in the history.

    Args:
        site: the site.
        event_id: the id.
        caller: who asks.

    Raises:
        UnknownName: there is no such transition that the caller may see.
    """
    with site.warehouse.read() as connection:
        query = select(alarm_history).where(alarm_history.c.event_id == event_id)
        row = connection.execute(query.where(alarm_history.c.type == "state transition")).first()
        if row is None or not (caller.admin or (caller.project_id and row.on_behalf_of == caller.project_id)):
            raise UnknownName("transition", event_id, [], hint="`meterhouse alarms history NAME` lists their ids")
        alarm, name = _alarm(connection, row)
    detail = json.loads(row.detail)
    windows = detail.get("windows", [])
    made = Explained(event_id, row.alarm_id, name, row.timestamp, detail["state"], detail["transition_reason"])
    made.event = detail.get("event")
    if alarm is None:
        made.windows = windows
        return made
    made.alarms = getattr(alarm.rule, "alarm_ids", ())
    scope = EVERYTHING if caller.admin else Scope(caller.project_id)  # an administrator's alarm may see more
    derived = {each.name: each.sources for each in derived_meters.load(site.settings.config_dir).definitions}
    for wanted, window in zip(alarm.wanted(), windows, strict=False):
        made.windows.append({"meter": wanted.meter_name, "period": wanted.period, **window})
        made.samples += _samples(site, scope, wanted, window, row.timestamp)
        for source in derived.get(wanted.meter_name, ()):  # what its points were computed of
            made.samples += _samples(site, scope, replace(wanted, meter_name=source), window, row.timestamp)
    _add_messages(site, made.samples)
    return made


def _alarm(connection: Connection, row: Row[Any]) -> tuple[Alarm | None, str]:
    """The alarm as it was defined at a transition, and its name; None if its definition cannot be read any more."""
    entries = connection.execute(
        select(alarm_history.c.type, alarm_history.c.detail)
        .where(alarm_history.c.alarm_id == row.alarm_id, alarm_history.c.sequence < row.sequence)
        .where(alarm_history.c.type.in_(("creation", "rule change")))
        .order_by(alarm_history.c.sequence)
    )
    definition: dict[str, Any] = {}
    for kind, detail in entries:
        definition = json.loads(detail) if kind == "creation" else {**definition, **json.loads(detail)}
    if "rule" not in definition:  # its creation is older than what the history keeps
        found = connection.execute(select(alarms.c.definition).where(alarms.c.alarm_id == row.alarm_id)).scalar()
        definition = json.loads(found) if found else {}
    try:
        return from_json(json.dumps(definition)), str(definition.get("name", ""))
    except DefinitionError:
        return None, str(definition.get("name", row.alarm_id))


def _samples(
    site: Site, scope: Scope, wanted: Wanted, window: Mapping[str, Any], moment: datetime
) -> list[dict[str, Any]]:
    """The samples of a window that were known at a moment, with the quality rules that each breaks."""
    starts = [times.parse(str(start)) for start in window.get("starts", ())]
    if not starts:
        return []
    try:
        found = samples(
            site,
            scope,
            wanted.meter_name,
            query=[wanted.condition],
            start=starts[0],
            end=moment + _MICROSECOND,
            limit=SAMPLES,
        )
    except UnknownName:  # its series are gone
        return []
    rows = [row for row in found.to_pylist() if row["recorded_at"] <= moment]
    return [{**{name: row[name] for name in _SHOWN}, "excluded": row["reasons"], "message_ids": []} for row in rows]


@retried
def _add_messages(site: Site, rows: list[dict[str, Any]]) -> None:
    """Find the notifications of samples, and add their ids to the rows."""
    from meterhouse.conversion.convert import Converter

    by_identity: dict[Identity, list[dict[str, Any]]] = {}
    for row in rows:
        by_identity.setdefault(_identity(row), []).append(row)
    received = pa.array(sorted({row["recorded_at"] for row in rows}), TIME)  # with its notification
    converter = Converter.from_settings(site.settings, site.definitions)
    for hour in sorted({times.arrival_hour(row["recorded_at"]) for row in rows}):
        for notifications in site.lake.pieces("notifications", {"arrival_hour": [hour]}, _AT_ONCE):
            near = notifications.filter(pc.is_in(notifications["received_at"], received))
            for start in range(0, len(near), _CONVERTED):
                for identity, message_id in _sources(converter, near.slice(start, _CONVERTED), by_identity.keys()):
                    for row in by_identity[identity]:
                        if message_id not in row["message_ids"]:
                            row["message_ids"].append(message_id)


def _sources(converter: "Converter", given: pa.Table, wanted: Set[Identity]) -> Iterator[tuple[Identity, str]]:
    """Which of the wanted samples are made of which notification.

    Many notifications are converted together, and those that make none of the samples need no second look.
    """
    made = converter.convert(given).samples.select(_IDENTIFYING)
    found = wanted & set(map(_identity, made.to_pylist()))
    if found and len(given) > 1:
        half = len(given) // 2
        yield from _sources(converter, given.slice(0, half), found)
        yield from _sources(converter, given.slice(half), found)
    else:
        message_id = given["message_id"][0].as_py()
        yield from ((identity, message_id) for identity in found)


def _identity(row: Mapping[str, Any]) -> Identity:
    volume = float(row["volume"])
    return str(row["meter"]), row["timestamp"], volume if volume == volume else None, row["resource_id"]
