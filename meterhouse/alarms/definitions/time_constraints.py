"""When an alarm is evaluated: spans that begin at the times of a cron expression.

Source: Ceilometer 2014.1 and Aodh 23, `within_time_constraint` of their evaluators. A constraint is in force from its
latest start until `duration` seconds later, and in the minute before a start. One of several is enough.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Final
from zoneinfo import ZoneInfo

from meterhouse import times
from meterhouse.alarms.definitions.checker import Checker, names

MAX_DURATION: Final = 366 * 86_400
"""Maximum duration in seconds."""


@dataclass(frozen=True)
class TimeConstraint:
    """A span that begins at each time of `start` (five fields of cron) in `timezone`, for `duration` seconds."""

    name: str
    start: str
    duration: int
    timezone: str = ""
    description: str = ""

    @property
    def sentence(self) -> str:
        """The description, as the peers word it if there is none."""
        return self.description or f"Time constraint at {self.start} lasting for {self.duration} seconds"

    def holds(self, moment: datetime) -> bool:
        """Whether it is in force at a moment."""
        from croniter import CroniterBadDateError, croniter

        zone: tzinfo = ZoneInfo(self.timezone) if self.timezone else UTC
        local = moment.astimezone(zone)
        try:
            latest = croniter(self.start, local).get_prev(datetime)
            following = croniter(self.start, latest).get_next(datetime)
        except CroniterBadDateError:  # it never begins
            return False
        if abs((following.astimezone(UTC) - moment).total_seconds()) < 60:
            return True
        return bool(latest <= moment <= latest.astimezone(UTC) + timedelta(seconds=self.duration))

    @classmethod
    def read(cls, check: Checker) -> "TimeConstraint":
        """The constraint that a mapping defines.

        Raises:
            DefinitionError: a value cannot be used.
        """
        from croniter import CroniterBadDateError, croniter

        check.keys(names(cls))
        made = cls(
            name=check.text("name"),
            start=check.text("start"),
            duration=check.whole("duration", None, MAX_DURATION, 0),
            timezone=check.text("timezone", "UTC") if check.entry.get("timezone") else "",
            description=check.prose("description") if check.entry.get("description") else "",
        )
        parts = made.start.lower().split()
        if len(parts) != 5 or any(part.startswith("r") for part in parts) or not croniter.is_valid(made.start):
            raise check.fault(  # a field `R` would be another number each time
                f"has the start '{made.start}', which is no cron expression", "Write five fields, such as `0 23 * * *`"
            )
        try:
            croniter(made.start, times.EPOCH).get_next()
        except CroniterBadDateError:
            raise check.fault(
                f"has the start '{made.start}', which never comes", "Write a day that the month has"
            ) from None
        try:
            ZoneInfo(made.timezone or "UTC")
        except (OSError, ValueError, KeyError):
            raise check.fault(
                f"has the timezone '{made.timezone}'", "Write a name of the time zone database, such as Europe/Vienna"
            ) from None
        return made


def in_force(constraints: Sequence[TimeConstraint], moment: datetime) -> bool:
    """Whether an alarm with these constraints is evaluated at a moment: always, if it has none."""
    return not constraints or any(each.holds(moment) for each in constraints)


def read_all(check: Checker) -> tuple[TimeConstraint, ...]:
    """The constraints of the key `time_constraints`.

    Raises:
        DefinitionError: one cannot be used, or two have one name.
    """
    made = tuple(
        map(TimeConstraint.read, check.mappings("time_constraints", "mappings", f"{check.label}, time_constraints:"))
    )
    if len({each.name for each in made}) < len(made):
        raise check.fault("has two time constraints of the same name", "Give each its own name")
    return made
