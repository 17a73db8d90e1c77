"""When to look for stale exports, and which to make again: what it costs grows neither with a site's age nor its size.

A look that follows a change reads the periods of exported days from the changed day on. A change that tells no day, as
a new name or a resource that silence ended days ago, waits for the look at all exports, once a night. After a look
comes a rest of twenty times as long. All this is remembered in a text, which a sensor keeps as its cursor.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final

import msgspec
from sqlalchemy import func, select

from meterhouse import times
from meterhouse.queries import export_states
from meterhouse.queries.export_states import AGAIN, StaleExport
from meterhouse.site import Site
from meterhouse.stores.warehouse_tables import runs

REST: Final = 20
"""How many times as long as a look took comes none after it."""

NIGHT: Final = timedelta(hours=3)
"""When, after midnight UTC, all exports are looked at: the day before is reconciled then."""

TRIES: Final = 10
"""How often a stale export is tried until its query or its data is another."""

PAUSE: Final = timedelta(minutes=2)
"""How long to wait after the first try; twice as long after each further one."""

_LATER: Final = datetime.max.replace(tzinfo=UTC)

_WIDE: Final = ("erase", "redefine", "backfill")
"""Beginnings of the names of steps that change any day."""


class Tried(msgspec.Struct):
    """How often a stale export was asked for, when last, and which one it was: of what query, made when."""

    times: int
    at: datetime
    of: str


class Memory(msgspec.Struct):
    """What is remembered of looks.

    Attributes:
        sequence: the newest run of a step that was taken into account.
        looked_at: when the last look ended, UTC.
        all_at: when the last look at all exports began, UTC.
        seconds: how long the last look took.
        tried: the exports that were asked for, by `REPORT/PARTITION`.
    """

    sequence: int = 0
    looked_at: datetime | None = None
    all_at: datetime | None = None
    seconds: float = 0.0
    tried: dict[str, Tried] = {}

    @classmethod
    def read(cls, text: str | None) -> "Memory":
        """Of a text that `write` made; that of nothing, if there is none or if it is another release's."""
        try:
            return msgspec.json.decode(text, type=cls) if text else cls()
        except msgspec.MsgspecError:
            return cls()

    def write(self) -> str:
        """As a text."""
        return msgspec.json.encode(self).decode()


def look(site: Site, memory: Memory) -> bool:
    """Look for stale exports if something changed since the last look, and note them; return whether there was one."""
    now = times.now()
    if memory.looked_at is not None and now < memory.looked_at + REST * timedelta(seconds=memory.seconds):
        return False
    sequence, changed, since = _changed(site, None if memory.looked_at is None else memory.sequence)
    night = times.day_start(now.date()) + NIGHT
    if now < night:
        night -= times.DAY
    if memory.all_at is None or memory.all_at < night:
        since, memory.all_at = None, now
    elif not changed:
        since = _LATER  # a span may have come to its end
    export_states.note_stale(site, export_states.due(since))
    memory.sequence, memory.looked_at = sequence, times.now()
    memory.seconds = (memory.looked_at - now).total_seconds()
    return True


def wanted(
    site: Site, memory: Memory, is_free: Callable[[StaleExport], bool], queries: Mapping[str, str]
) -> Iterator[StaleExport]:
    """The noted exports to ask for now, the newest first. What is taken from this is remembered as asked for.

    One of a span that is not over is made once an hour at most. One that could not be made is tried again later and
    later, and after some tries only when its query is another or when somebody has made it.

    Args:
        site: the site.
        memory: what is remembered.
        is_free: whether an export can be asked for, and is not being made.
        queries: the queries of the reports that can be asked for, by name.
    """
    now = times.now()
    noted = [(each, made) for each, made in export_states.noted(site) if each.report in queries]
    known = {_name(each): _which(queries[each.report], made) for each, made in noted}
    memory.tried = {name: tried for name, tried in memory.tried.items() if known.get(name) == tried.of}
    for each, made in sorted(noted, key=lambda pair: pair[0].start, reverse=True):
        tried = memory.tried.get(_name(each))
        if each.end > now and now < made + AGAIN:
            continue
        may = tried is None or (tried.times < TRIES and now >= tried.at + PAUSE * 2 ** (tried.times - 1))
        if may and is_free(each):
            memory.tried[_name(each)] = Tried(1 if tried is None else tried.times + 1, now, known[_name(each)])
            yield each


def _name(each: StaleExport) -> str:
    return f"{each.report}/{each.partition}"


def _which(query: str, made: datetime) -> str:
    return export_states.digest([query, times.text(made)])


def _changed(site: Site, after: int | None) -> tuple[int, bool, datetime | None]:
    """What steps did after a place in `runs`: the place now, whether it may change a report, and since which day.

    Without a place, only the place now is looked up.
    """
    query = select(runs.c.step, runs.c.figures).where(runs.c.sequence > (after or 0))
    with site.warehouse.read() as connection:
        reached = connection.execute(select(func.coalesce(func.max(runs.c.sequence), 0))).scalar_one()
        found = connection.execute(query.where(runs.c.sequence <= reached)).all() if after is not None else []
    days: list[str] = []
    for step, figures in found:
        done: Any = msgspec.json.decode(figures)
        if step.startswith(_WIDE):
            return reached, True, None
        of_step = done.get("days")
        days.extend(of_step if isinstance(of_step, (list, dict)) else ())
    return reached, bool(days), times.day_start(_first(days)) if days else None


def _first(days: Sequence[str]) -> date:
    return date.fromisoformat(min(days))
