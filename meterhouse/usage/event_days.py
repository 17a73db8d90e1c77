"""Which event days new evidence and recomputed roll-ups are about, by the commits that brought them."""

import json
from collections.abc import Iterator
from datetime import date, datetime
from typing import Any

from meterhouse import times
from meterhouse.errors import Replaced
from meterhouse.stores.lake import Lake


def between(lake: Lake, evidence: tuple[int, int], rollups: tuple[int, int]) -> set[date]:
    """The event days, UTC, of evidence and roll-ups that came after a version of their tables, up to another.

    A file of evidence counts for all days from its first to its last time. Commits that are no longer in the log count
    for none.
    """
    found: set[date] = set()
    try:
        for commit in lake.commits("evidence", *evidence):
            for action in commit.added if commit.changes_data else ():
                found.update(_of_file(action))
        for commit in lake.commits("rollups", *rollups):
            found.update(hour.date() for hour in commit.hours or ())
    except Replaced:
        pass
    return found


def _of_file(action: dict[str, Any]) -> Iterator[date]:
    statistics = json.loads(action.get("stats") or "{}")
    bounds = [statistics.get(name, {}).get("said_at") for name in ("minValues", "maxValues")]
    if all(isinstance(bound, str) for bound in bounds):
        first, last = (datetime.fromisoformat(bound).date() for bound in bounds)
        day = times.day_start(first)
        while day.date() <= last:
            yield day.date()
            day += times.DAY
