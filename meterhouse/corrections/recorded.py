"""What a correction is, and those that the warehouse has recorded."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Final, Literal

from sqlalchemy import Row, select

from meterhouse.errors import UnknownName
from meterhouse.filters import DIMENSIONS, Condition, Field, Fields, all_of, parse
from meterhouse.site import Site
from meterhouse.stores.warehouse_tables import corrections
from meterhouse.times import Span

Action = Literal["delete", "replace", "accept"]

FIELDS: Final[Fields] = {**DIMENSIONS, "volume": Field("volume", "number")}
"""What points can be chosen by: what all copies of a point share."""


@dataclass(frozen=True)
class Correction:
    """A correction; for its columns, see the warehouse's table `corrections`.

    Attributes:
        correction_id: they take effect in this order, each on what those before it leave.
        action: `delete`: the points do not count. `replace`: they have another volume, which is judged like any other.
            `accept`: no quality rule about a point by itself excludes them.
        meter: whose points.
        start_at, end_at: the half-open span of event time, UTC.
        condition: which of these points, in the language of `filters.parse` on FIELDS; empty for all.
        volume: that the points get, in the meter's unit; None if they are multiplied, or not replaced.
        factor: that their volumes are multiplied by; None if they get one, or are not replaced.
        reason: why.
        author: who recorded it.
        recorded_at: when, UTC.
        points: how many rows of samples it changed then, copies included.
        revoked_at: since when it has no effect, UTC; None for an active one.
        revoked_by: who revoked it.
        revoked_reason: why.
    """

    correction_id: int
    action: Action
    meter: str
    start_at: datetime
    end_at: datetime
    condition: str = ""
    volume: float | None = None
    factor: float | None = None
    reason: str = ""
    author: str = ""
    recorded_at: datetime | None = None
    points: int = 0
    revoked_at: datetime | None = None
    revoked_by: str | None = None
    revoked_reason: str | None = None

    @cached_property
    def chosen(self) -> Condition:
        """The condition, parsed."""
        return parse(self.condition, FIELDS) if self.condition else all_of(())

    @property
    def is_active(self) -> bool:
        """Whether it has an effect."""
        return self.revoked_at is None

    def overlaps(self, spans: Sequence[Span]) -> bool:
        """Whether it may change points of one of these spans."""
        return any(start < self.end_at and end > self.start_at for start, end in spans)


def recorded(site: Site) -> list[Correction]:
    """All corrections, the oldest first, revoked ones too."""
    with site.warehouse.read() as connection:
        return [_of(row) for row in connection.execute(select(corrections).order_by(corrections.c.correction_id))]


def active(site: Site, spans: Sequence[Span]) -> list[Correction]:
    """The corrections that may change points of these spans of event time, in the order in which they take effect.

    A step reads them after it has noted which hours are dirty: one that is recorded later marks its hours once more.
    """
    if not spans:
        return []
    within = (
        corrections.c.revoked_at.is_(None),
        corrections.c.start_at < max(end for _, end in spans),
        corrections.c.end_at > min(start for start, _ in spans),
    )
    with site.warehouse.read() as connection:
        rows = connection.execute(select(corrections).where(*within).order_by(corrections.c.correction_id)).all()
    return [found for found in map(_of, rows) if found.overlaps(spans)]


def find(site: Site, correction_id: int) -> Correction:
    """A correction by its id.

    Raises:
        UnknownName: there is none.
    """
    known = recorded(site)
    for each in known:
        if each.correction_id == correction_id:
            return each
    raise UnknownName("correction", str(correction_id), [str(each.correction_id) for each in known])


def _of(row: Row[tuple[object, ...]]) -> Correction:
    return Correction(**row._mapping)
