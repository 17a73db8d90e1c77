"""Billing months as texts, `2026-11`: they sort by time."""

import re
from datetime import date

from meterhouse.errors import UsageError


def parse(text: str) -> str:
    """A month from `YYYY-MM`.

    Raises:
        UsageError: the text is not a month.
    """
    found = re.fullmatch(r"(\d{4})-(\d\d)", text.strip(), re.ASCII)
    if found is None or not 1 <= int(found[2]) <= 12 or not 1970 <= int(found[1]) <= 2260:
        raise UsageError(f"'{text}' is not a month", hint="Write YYYY-MM, such as 2026-11")
    return found[0]


def of(day: date) -> str:
    """The month of a day, or of a time in its own time zone."""
    return f"{day:%Y-%m}"


def following(month: str) -> str:
    """The month after a month."""
    year, number = map(int, month.split("-"))
    return f"{year + number // 12}-{number % 12 + 1:02}"


def preceding(month: str) -> str:
    """The month before a month."""
    year, number = map(int, month.split("-"))
    return f"{year - (number == 1)}-{(number - 2) % 12 + 1:02}"
