"""Figures of a run by event day: `runs` keeps them, and Dagster shows them in the materialization of each day."""

from collections.abc import Mapping
from datetime import date

Days = dict[str, dict[str, int]]
"""Day as `YYYY-MM-DD` → name of a figure → its value for the hours of that day that a run computed."""


def add(days: Days, day: date, **figures: int) -> None:
    """Add figures to those of a day."""
    of_day = days.setdefault(day.isoformat(), dict.fromkeys(figures, 0))
    for name, value in figures.items():
        of_day[name] += value


def total(days: Mapping[str, Mapping[str, int]], name: str) -> int:
    """The sum of a figure over the days."""
    return sum(figures[name] for figures in days.values())
