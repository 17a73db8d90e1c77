"""What decides the amounts of a closed month now, as a short text: a month whose text is the same has not changed.

A closed month is rated again and compared with its bill only if its text differs from that of the last comparison that
found nothing to correct. This text is beside the bill, in `compared.json`: deleting it costs one comparison. Closing a
month compares all months, whatever their texts say.
"""

import json
from collections.abc import Sequence
from contextlib import suppress
from hashlib import sha256
from typing import Any, Final

from sqlalchemy import Connection, and_, func, literal_column, or_, select

from meterhouse import __version__, times
from meterhouse.billing import frozen
from meterhouse.billing.frozen import Month
from meterhouse.errors import MeterhouseError
from meterhouse.site import Site
from meterhouse.stores.warehouse_tables import counted_periods, dirty_hours, erasures, resource_periods

FILE: Final = "compared.json"
"""The file of a month's folder; it is none of the bill, and the manifest does not have it."""

_LOW_BITS: Final = 2**31 - 1


def state(site: Site, month: Month, resources: bytes, corrected_by: Sequence[Month]) -> str:
    """What decides the amounts of a closed month, and what was billed for it; read it before the amounts.

    Args:
        site: the site.
        month: the closed month.
        resources: the content of `resources.yaml` now.
        corrected_by: the closed months whose bills have corrections of it.

    Returns:
        A SHA-256 in hexadecimal digits. It differs if the month's periods differ in anything but their confirmation,
        if an hour before the month's end was rolled up again, which is when counters and metadata can change, or if
        personal data was erased.
    """
    with site.warehouse.read() as connection:
        parts = [
            __version__,
            sha256(resources).hexdigest(),
            month.closing.digest,
            [each.closing.digest for each in corrected_by],
            _periods(connection, month),
            _polled(connection, month),
            _hours(connection, month),
            list(connection.execute(select(func.count(), func.max(erasures.c.ended_at))).one()),
        ]
    return sha256(json.dumps(parts, default=str).encode()).hexdigest()


def kept(site: Site, month: str) -> str | None:
    """The state in which the last comparison found nothing to correct; None if there was none or it cannot be read."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        return str(json.loads(site.lake.get(f"{frozen.FOLDER}/{month}/{FILE}"))["state"])
    return None


def keep(site: Site, month: str, found: str) -> None:
    """Keep the state in which a comparison found nothing to correct, if the lake can be written."""
    with suppress(MeterhouseError):
        site.lake.put(f"{frozen.FOLDER}/{month}/{FILE}", frozen.encoded({"state": found}))


def _periods(connection: Connection, month: Month) -> list[int]:
    """The number of periods in the month, and the sums of both halves of their digests: these fit into 64 bits."""
    p = resource_periods.c
    sums = select(
        func.count(),
        func.count(p.ended_at),
        func.sum(p.digest.bitwise_and(_LOW_BITS)),
        func.sum(p.digest.bitwise_rshift(literal_column("31"))),
    ).where(_within(month))
    return [int(each or 0) for each in connection.execute(sums).one()]


def _polled(connection: Connection, month: Month) -> list[list[Any]]:
    """What samples alone told of and no longer do: it counts until the last one, which is not in the digest."""
    p = counted_periods.c
    within = p.started_at < month.end, p.ended_at.is_(None), p.confirmed_by == "polls", p.confirmed_until < month.end
    columns = p.resource_type, p.resource_id, p.started_at, p.confirmed_until
    found = select(*columns).where(*within, p.counted_until.is_not(None)).order_by(*columns)
    return [list(row) for row in connection.execute(found)]


def _hours(connection: Connection, month: Month) -> list[Any]:
    """The number of hours before the month's end, how often they were rolled up, and into which versions of the lake.

    Earlier hours count too: they say what the metadata was when the month began.
    """
    h = dirty_hours.c
    sums = select(func.count(), func.sum(h.rolled_marks), func.sum(h.rolled_version), func.max(h.rolled_at))
    count, marks, versions, last = connection.execute(sums.where(h.hour < month.end)).one()
    return [count, int(marks or 0), int(versions or 0), None if last is None else times.text(last)]


def _within(month: Month) -> Any:
    p = resource_periods.c
    return and_(p.started_at < month.end, or_(p.ended_at.is_(None), p.ended_at > month.start))
