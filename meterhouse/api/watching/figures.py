"""Figures of a site for its operator: what waits, what was landed, converted and excluded, alarms and deliveries.

They are counts of the whole site. Nothing in them is of a project.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from sqlalchemy import BigInteger, Column, Connection, case, cast, func, select
from sqlalchemy.dialects.postgresql import JSONB

from meterhouse.site import Site
from meterhouse.stores.warehouse_tables import alarm_cycles, alarms, deliveries, dirty_hours, runs

SUMMED: Final[Mapping[str, tuple[str, ...]]] = {
    "collect": ("messages", "landed", "dead_letters"),
    "convert": ("samples", "events", "errors"),
}
"""Step → the figures of its runs that are summed up."""


@dataclass(frozen=True)
class Figures:
    """What the warehouse knows.

    Attributes:
        summed: by step and figure, over all runs that are kept and those since.
        ended: by step, when its last run ended.
        good, excluded: number of points, over all event hours.
        dirty: by step (`judge`, `rollup`), the event hours that wait for it.
        alarms: by state, those that are enabled.
        deliveries: by state.
        evaluated_at: when the alarms were last evaluated; None if never.
    """

    summed: Mapping[tuple[str, str], int]
    ended: Mapping[str, datetime]
    good: int
    excluded: int
    dirty: Mapping[str, int]
    alarms: Mapping[str, int]
    deliveries: Mapping[str, int]
    evaluated_at: datetime | None


@dataclass
class FigureReader:
    """Reads the figures. Runs are summed up once: the next time, those that have come since are added.

    Attributes:
        site: whose figures.
    """

    site: Site
    _sequence: int = 0
    _summed: dict[tuple[str, str], int] = field(default_factory=dict)

    def read(self) -> Figures:
        """The figures of now.

        Raises:
            MeterhouseError: the warehouse cannot be reached.
        """
        with self.site.warehouse.read() as connection:
            self._sum_up(connection)
            hours = connection.execute(_HOURS).one()
            return Figures(
                summed=dict(self._summed),
                ended={row.step: row.ended_at for row in connection.execute(_ENDED)},
                good=int(hours.good or 0),
                excluded=int(hours.excluded or 0),
                dirty={"judge": int(hours.to_judge or 0), "rollup": int(hours.to_roll_up or 0)},
                alarms={row.state: row.number for row in connection.execute(_ALARMS)},
                deliveries={row.state: row.number for row in connection.execute(_DELIVERIES)},
                evaluated_at=connection.execute(select(alarm_cycles.c.evaluated_at)).scalar(),
            )

    def _sum_up(self, connection: Connection) -> None:
        last = connection.execute(select(func.max(runs.c.sequence))).scalar() or 0
        for step, names in SUMMED.items():
            sums = [func.coalesce(func.sum(self._figure(name)), 0) for name in names]
            new = (runs.c.step == step, runs.c.sequence > self._sequence, runs.c.sequence <= last)
            found = connection.execute(select(*sums).where(*new)).one()
            for name, number in zip(names, found, strict=True):
                self._summed[step, name] = self._summed.get((step, name), 0) + int(number)
        self._sequence = last

    def _figure(self, name: str) -> Any:
        if self.site.warehouse.is_sqlite:
            return func.json_extract(runs.c.figures, f"$.{name}")
        return cast(cast(runs.c.figures, JSONB)[name].astext, BigInteger)


def _is_more(one: Column[Any], other: Column[Any]) -> Any:
    return case((one > other, 1), else_=0)


_HOURS: Final = select(
    func.sum(dirty_hours.c.good_points).label("good"),
    func.sum(dirty_hours.c.excluded_points).label("excluded"),
    func.sum(_is_more(dirty_hours.c.marks, dirty_hours.c.judged_marks)).label("to_judge"),
    func.sum(_is_more(dirty_hours.c.marks, dirty_hours.c.rolled_marks)).label("to_roll_up"),
)
_LAST: Final = select(func.max(runs.c.sequence)).group_by(runs.c.step)
_ENDED: Final = select(runs.c.step, runs.c.ended_at).where(runs.c.sequence.in_(_LAST))
_ALARMS: Final = select(alarms.c.state, func.count().label("number")).where(alarms.c.enabled).group_by(alarms.c.state)
_DELIVERIES: Final = select(deliveries.c.state, func.count().label("number")).group_by(deliveries.c.state)
