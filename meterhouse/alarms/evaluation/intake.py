"""How far intake is behind: then a window may lack points that exist, and says little."""

import logging
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import Final

from meterhouse import catalog, history, times
from meterhouse.collection.lag import measure
from meterhouse.conversion.step import TABLES, converted_position
from meterhouse.errors import MeterhouseError
from meterhouse.site import Site
from meterhouse.stores.lake import is_append

log = logging.getLogger(__name__)

LATE: Final = timedelta(seconds=60)
"""Intake is behind if something has waited for longer: the extra period of each window hides less."""

COMMITS: Final = 1_000
"""How many commits are looked at to find the oldest one that waits."""


@dataclass(frozen=True)
class Behind:
    """What has waited for how long. `stage` says what, for people."""

    seconds: float
    stage: str

    @property
    def text(self) -> str:
        """A sentence about it."""
        return f"intake is {self.seconds:.0f} s behind: {self.stage}"


class Intake:
    """The intake of a site at a moment. It is measured when it is first asked for."""

    def __init__(self, site: Site) -> None:
        self._site = site

    @cached_property
    def behind(self) -> Behind | None:
        """The stage that is farthest behind; None if none is by more than LATE.

        What cannot be measured, such as a broker that does not answer, is not behind.
        """
        found = [each for each in (self._stream(), self._conversion(), self._catalog()) if each is not None]
        worst = max(found, key=lambda each: each.seconds, default=None)
        return worst if worst is not None and worst.seconds > LATE.total_seconds() else None

    def _stream(self) -> Behind | None:
        try:
            lag = measure(self._site)
        except (MeterhouseError, OSError) as error:
            log.warning("the stream's lag cannot be measured: %s", error)
            return None
        worst = max(lag.queues, key=lambda queue: queue.age_seconds or 0.0, default=None)
        if worst is None or not worst.age_seconds:
            return None
        return Behind(worst.age_seconds, f"{worst.messages} wait in {worst.place}")

    def _conversion(self) -> Behind | None:
        lake = self._site.lake
        reached = min(converted_position(lake, name).version for name in TABLES)
        return self._waiting("notifications", reached, "landed messages wait for conversion")

    def _catalog(self) -> Behind | None:
        reached = history.followed_position(self._site, catalog.FOLLOWER).version
        return self._waiting(catalog.TABLE, reached, "samples wait for the catalog")

    def _waiting(self, table: str, reached: int, what: str) -> Behind | None:
        """How long the oldest commit after a version has waited that added rows."""
        lake = self._site.lake
        newest = min(lake.version(table), reached + COMMITS)
        try:
            for commit in lake.commits(table, reached, newest):
                if is_append(commit) and commit.added and commit.at is not None:
                    return Behind(_since(commit.at), what)
        except MeterhouseError as error:  # they are no longer in the log: it is not known how old they are
            log.warning("the age of what waits in %s cannot be measured: %s", table, error)
        return None


def _since(moment: datetime) -> float:
    return (times.now() - moment).total_seconds()
