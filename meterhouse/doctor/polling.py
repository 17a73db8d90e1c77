"""Checks of polling: whether every source is polled in time, and which slots were missed."""

from collections.abc import Iterator
from datetime import timedelta

from sqlalchemy import func, select

from meterhouse.doctor.findings import Finding, age
from meterhouse.errors import DefinitionError
from meterhouse.polling.lateness import TOO_LATE, Late, lateness
from meterhouse.polling.record.members import living
from meterhouse.site import Site
from meterhouse.stores import clock
from meterhouse.stores.warehouse_tables import poll_tasks

MISSED_WITHIN = timedelta(days=1)
REASON = 200
"""Characters that are shown of a reason."""


def polling(site: Site) -> Iterator[Finding]:
    """Whether every pollster was completely polled within the last two intervals, by how many members; and the files.

    An entry of the files with a fault is not polled, or as it was before the fault: so it may be in nobody's record.
    """
    yield from _faults(site)
    found = lateness(site)
    if not found:
        yield Finding("polling", "ok", "nothing is polled: no member has read a polling.yaml yet")
        return
    late = [each for each in found if each.intervals >= TOO_LATE]
    members = _alive(site)
    alive = f"{members} {'member is' if members == 1 else 'members are'} alive"
    if late:
        to_do = "see `meterhouse poll history`" if members else "start `meterhouse poll --follow`, or Dagster's daemon"
        yield Finding("polling", "warning", f"{_said(late)}; {alive}", to_do)
    else:
        count = f"{len(found)} {'pollster is' if len(found) == 1 else 'pollsters are'} polled in time"
        yield Finding("polling", "ok", f"{count}; {alive}")


def missed(site: Site) -> Iterator[Finding]:
    """How many slots were missed in the last day, and why the last one was. The record has those before."""
    c = poll_tasks.c
    with site.warehouse.read() as connection:
        now = clock.present(connection)
        lately = (c.state == "missed", c.slot_at >= now - MISSED_WITHIN)
        count = connection.execute(select(func.sum(c.slots)).where(*lately)).scalar()
        if not count:
            yield Finding("missed slots", "ok", "no slot was missed in the last day")
            return
        newest = select(c.source, c.pollster, c.slot_at, c.error).where(*lately).order_by(c.slot_at.desc()).limit(1)
        last = connection.execute(newest).one()
    slots = "1 slot was" if count == 1 else f"{count:,} slots were"
    ago = age((now - last.slot_at).total_seconds())
    said = f"{slots} missed in the last day; the last is of {last.source}/{last.pollster}, {ago} ago"
    reason = (last.error or "without a reason")[:REASON]
    yield Finding("missed slots", "warning", f"{said}: {reason}", "see `meterhouse poll history`")


def _faults(site: Site) -> Iterator[Finding]:
    """What members cannot use of polling.yaml and pollsters.d."""
    from meterhouse.polling.definitions import load

    try:
        faults = [str(each) for each in load(site.settings.config_dir).faults]
    except DefinitionError as error:
        faults = [str(error)]
    for fault in faults:
        yield Finding("polling", "warning", fault, "mend it; see `meterhouse poll check`")


def _said(late: list[Late]) -> str:
    worst = late[0]
    more = f", and {len(late) - 1} more" if len(late) > 1 else ""
    return (
        f"{worst.name} has not been completely polled for {worst.intervals} intervals, "
        f"since {worst.since:%Y-%m-%dT%H:%M:%SZ}{more}"
    )


def _alive(site: Site) -> int:
    """The number of members that are alive."""
    with site.warehouse.read() as connection:
        return len(living(connection, clock.present(connection)))
