"""Schema drift: paths of definitions that used to find something in a type of notification, and no longer do.

A service renames a field of its payload, and a meter or a trait stays away with no error anywhere. So the conversion
counts, for each path and event type, in how many messages it found a value; a path that found one often enough, and
then in so many messages none that chance cannot explain it, has drifted.
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
from meterhouse.stores.warehouse_tables import definition_paths

LEAST_MISSED: Final = 10
"""So many messages in a row a path has to find nothing in before it can be said to have drifted."""

UNLIKELY: Final = 1e-6
"""The chance of so long a row of misses, by the path's own history, below which it has drifted."""


@dataclass(frozen=True)
class Drifted:
    """A path that used to find something.

    Attributes:
        event_type: in notifications of this type.
        reader: `meter` or `event`, the kind of definition that it stands in.
        path: as the definition has it.
        found: how many messages it found something in,
        of: of so many, up to the last one.
        missed: in so many since then it found nothing.
        last_found_at: when that last one was converted, UTC.
    """

    event_type: str
    reader: str
    path: str
    found: int
    of: int
    missed: int
    last_found_at: datetime


def has_drifted(messages: int, found: int, missed: int) -> bool:
    """Whether so many misses in a row are not chance.

    Each message is taken to have the value with the share of those before, by the rule of succession; the chance of
    `missed` misses in a row is then (1 - share) ** missed.
    """
    if not found or missed < LEAST_MISSED:
        return False
    share = found / (messages - missed + 2)
    return missed * math.log1p(-share) < math.log(UNLIKELY)


def record(site: Site, uses: Uses) -> None:
    """Add what a conversion counted to the warehouse."""
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
    with site.warehouse.begin() as connection:
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
    """The paths that have drifted, the most missed first."""
    table = definition_paths.c
    query = (
        select(definition_paths)
        .where(table.found > 0, table.missed >= LEAST_MISSED)
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
    """Begin to count anew, for one event type or for all: what was found is no longer expected.

    Returns:
        How many paths were forgotten.
    """
    chosen = definition_paths.delete()
    if event_type is not None:
        chosen = chosen.where(definition_paths.c.event_type == event_type)
    with site.warehouse.begin() as connection:
        return int(connection.execute(chosen).rowcount)
