"""Runs alarms over the past by statistics, which roll-ups answer where they can: near the live evaluation, and fast.

It differs from it in this: periods begin at multiples of their length, only whole ones count, and all points count that
have come by now.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from meterhouse import times
from meterhouse.alarms.definitions.alarm import Alarm
from meterhouse.alarms.definitions.rules.deviation import DeviationRule
from meterhouse.alarms.definitions.wanted import Wanted
from meterhouse.alarms.evaluation.windows import Window
from meterhouse.alarms.replay.run import Replayed, run
from meterhouse.errors import UnknownName, UsageError
from meterhouse.queries.statistics import statistics
from meterhouse.scopes import EVERYTHING
from meterhouse.site import Site

_AGGREGATES = {"median": "p50"}


@dataclass(frozen=True)
class _Periods:
    """The periods of a window that have points, in order: their starts in µs since 1970, values, points and units."""

    starts: list[int]
    values: list[float]
    points: list[int]
    units: tuple[str, str]

    def until(self, wanted: Wanted, moment: datetime) -> Window:
        """The window that ends at a moment."""
        end, length = times.micros(moment), wanted.period * 1_000_000
        first = end - int(wanted.window.total_seconds()) * 1_000_000
        chosen = [n for n, start in enumerate(self.starts) if first <= start and start + length <= end]
        last = chosen[-wanted.evaluation_periods :]
        return Window(
            tuple(self.values[n] for n in last),
            self.units,
            tuple(self.starts[n] for n in last),
            tuple(self.points[n] for n in last),
        )


def replay(site: Site, alarms: Mapping[str, Alarm], moments: Sequence[datetime], every: int) -> dict[str, Replayed]:
    """As `run.replay`, from roll-ups.

    Raises:
        UsageError: an alarm is of a type that roll-ups cannot answer.
    """
    for alarm in alarms.values():
        if isinstance(alarm.rule, DeviationRule):
            raise UsageError(f"alarm '{alarm.name}' compares weeks", hint="Replay it without --fast")
        for wanted in alarm.wanted():
            if wanted.over_series not in ("", wanted.statistic):
                raise UsageError(f"alarm '{alarm.name}' aggregates twice", hint="Replay it without --fast")
    return run(site, alarms, moments, every, _windows)


def _windows(
    site: Site, alarms: Mapping[str, Alarm], moments: Sequence[datetime]
) -> Iterator[dict[str, Sequence[Window]]]:
    wanted = {key: alarm.wanted() for key, alarm in alarms.items()}
    periods = {each: _periods(site, each, moments[0], moments[-1]) for of in wanted.values() for each in of}
    for moment in moments:
        yield {key: [periods[each].until(each, moment) for each in of] for key, of in wanted.items()}


def _periods(site: Site, wanted: Wanted, first: datetime, last: datetime) -> _Periods:
    length = timedelta(seconds=wanted.period)
    start = first - wanted.window
    start = times.EPOCH + (start - times.EPOCH) // length * length
    aggregate = _AGGREGATES.get(wanted.statistic, wanted.statistic)
    try:
        rows = statistics(
            site,
            EVERYTHING,
            wanted.meter_name,
            query=[wanted.condition],
            period=wanted.period,
            aggregate=list(dict.fromkeys([aggregate, "count"])),
            start=start,
            end=last,
        )
    except UnknownName:
        return _Periods([], [], [], ("", ""))
    rows = sorted((row for row in rows if row[aggregate] is not None), key=lambda row: row["period_start"])
    units = sorted({row["unit"] or "" for row in rows}) or [""]
    return _Periods(
        [times.micros(row["period_start"]) for row in rows],
        [float(row[aggregate]) for row in rows],
        [int(row["count"]) for row in rows],
        (units[0], units[-1]),
    )
