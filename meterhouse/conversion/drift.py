"""Schema drift: paths of definitions that used to find a value in a type of notification, and no longer do.

If a service renames a field of its payload, a meter or a trait disappears without an error. So the conversion counts,
for each path and event type, in how many messages it found a value. A path has drifted if it used to find a value, and
then misses in more messages in a row than chance can explain.
"""

import math
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import pyarrow as pa
from sqlalchemy import select

from meterhouse import times
from meterhouse.definitions.use import Uses
from meterhouse.site import Site
from meterhouse.stores.bulk import upsert
from meterhouse.stores.leases import Lease
from meterhouse.stores.warehouse_tables import definition_paths

MIN_MISSED: Final = 10
"""Minimum number of misses in a row before a path counts as drifted."""

UNLIKELY: Final = 1e-6
"""A path has drifted if, by its own history, the probability of its row of misses is below this."""


@dataclass(frozen=True)
class Drifted:
    """A path that used to find a value.

    Attributes:
        event_type: the type of the notifications.
        reader: `meter` or `event`, the kind of definition that has the path.
        path: the path as written in the definition.
        found: the number of messages in which it found a value.
        of: the number of messages up to the last one in which it found a value.
        missed: the number of messages since then.
        last_found_at: when the last message with a value was converted, UTC.
    """

    event_type: str
    reader: str
    path: str
    found: int
    of: int
    missed: int
    last_found_at: datetime


def has_drifted(messages: int, found: int, missed: int) -> bool:
    """Whether the number of misses in a row cannot be chance.

    By the rule of succession, each message has the value with the share of the messages before. The probability of
    `missed` misses in a row is then (1 - share) ** missed.
    """
    if not found or missed < MIN_MISSED:
        return False
    share = found / (messages - missed + 2)
    return missed * math.log1p(-share) < math.log(UNLIKELY)


def record(lease: Lease, uses: Uses) -> None:
    """Add the counts of a conversion to the warehouse, under the lease of the conversion."""
    if not uses:
        return
    now = times.now()
    keys, counts = list(uses), list(uses.values())
    found_at = [now if use.found else None for use in counts]
    rows = pa.table(
        {
            "event_type": [event_type for event_type, _, _ in keys],
            "reader": [reader for _, reader, _ in keys],
            "path": [path for _, _, path in keys],
            "messages": pa.array([use.messages for use in counts], pa.int64()),
            "found": pa.array([use.found for use in counts], pa.int64()),
            "missed": pa.array([use.missed for use in counts], pa.int64()),
            "last_seen_at": pa.array([now] * len(keys), pa.timestamp("us", tz="UTC")),
            "last_found_at": pa.array(found_at, pa.timestamp("us", tz="UTC")),
        }
    )
    name = definition_paths.name
    with lease.begin() as connection:
        upsert(
            connection,
            definition_paths,
            rows,
            [
                f"messages = {name}.messages + excluded.messages",
                f"found = {name}.found + excluded.found",
                f"missed = CASE WHEN excluded.found > 0 THEN excluded.missed ELSE {name}.missed + excluded.missed END",
                "last_seen_at = excluded.last_seen_at",
                f"last_found_at = coalesce(excluded.last_found_at, {name}.last_found_at)",
            ],
        )


def drifted(site: Site) -> list[Drifted]:
    """The paths that have drifted, those with the most misses first."""
    table = definition_paths.c
    query = (
        select(definition_paths)
        .where(table.found > 0, table.missed >= MIN_MISSED)
        .order_by(table.missed.desc(), table.event_type, table.path)
    )
    with site.warehouse.read() as connection:
        rows = connection.execute(query).mappings().all()
    return [
        Drifted(
            row["event_type"],
            row["reader"],
            row["path"],
            row["found"],
            row["messages"] - row["missed"],
            row["missed"],
            row["last_found_at"],
        )
        for row in rows
        if has_drifted(row["messages"], row["found"], row["missed"])
    ]


def forget(site: Site, event_type: str | None = None) -> int:
    """Reset the counts of one event type, or of all: what was found before is no longer expected.

    Returns:
        The number of paths that were reset.
    """
    chosen = definition_paths.delete()
    if event_type is not None:
        chosen = chosen.where(definition_paths.c.event_type == event_type)
    with site.warehouse.begin() as connection:
        return int(connection.execute(chosen).rowcount)
