"""How late polling is: by how many intervals each pollster of each source is behind.

It is read from the record, which lies in the warehouse. So it grows when every member is dead, too.
"""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import select

from meterhouse.site import Site
from meterhouse.stores import clock
from meterhouse.stores.warehouse_tables import poll_schedules

TOO_LATE: Final = 2
"""From this number of intervals on, polling does not keep up."""


@dataclass(frozen=True)
class Late:
    """How late one pollster of one source is.

    Attributes:
        source, pollster: their names.
        host: of which host it tells; empty if any member can poll it.
        intervals: number of whole intervals since the end of the last slot that was completely polled, or since the
            pollster was added or changed, if that is later. 0: it keeps up.
        since: that instant, UTC.
    """

    source: str
    pollster: str
    host: str
    intervals: int
    since: datetime

    @property
    def name(self) -> str:
        """`source/pollster`, and for a pollster of a host `source/pollster/host`."""
        return "/".join(filter(None, (self.source, self.pollster, self.host)))


def lateness(site: Site) -> list[Late]:
    """How late each pollster is that is to be polled, the latest first.

    Raises:
        MeterhouseError: the warehouse cannot be read.
    """
    c = poll_schedules.c
    columns = (c.source, c.pollster, c.host, c.interval_seconds, c.done_slot_at, c.changed_at)
    with site.warehouse.read() as connection:
        now = clock.present(connection)
        rows = connection.execute(select(*columns).where(c.active)).all()
    found = [Late(row.source, row.pollster, row.host, behind(row, now), polled_until(row)) for row in rows]
    return sorted(found, key=lambda late: (-late.intervals, late.name))


def behind(schedule: Any, present: datetime) -> int:
    """How many whole intervals the pollster of a row of `poll_schedules` is behind; see `Late.intervals`."""
    interval = timedelta(seconds=schedule.interval_seconds)
    return max(0, (present - polled_until(schedule)) // interval)


def polled_until(schedule: Any) -> datetime:
    """The instant since which intervals are counted, for a row of `poll_schedules`; see `Late.intervals`."""
    done: datetime | None = schedule.done_slot_at
    changed: datetime = schedule.changed_at
    return changed if done is None else max(done + timedelta(seconds=schedule.interval_seconds), changed)
