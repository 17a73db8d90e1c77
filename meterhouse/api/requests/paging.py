"""Pages: how many things are answered, and after which one a page starts."""

from typing import Final

from meterhouse.api.answers.faults import Fault, invalid
from meterhouse.api.requests.arguments import Argument, Given
from meterhouse.settings import Settings

DEFAULT: Final = 100
"""How many things are answered if no limit is given, as in Ceilometer since Liberty."""

LIMIT: Final = Argument(
    "limit",
    f"Maximum number of things to answer. Default {DEFAULT}.",
    "integer",
    default=DEFAULT,
    minimum=1,
    example=10,
)

MARKER: Final = Argument("marker", "The id of the last one of the page before. The page starts after it.")


def limit_of(given: Given, settings: Settings) -> int:
    """How many things are answered at most.

    Raises:
        Fault: the limit is not from 1 to METERHOUSE_API_MAX_LIMIT: status 400.
    """
    return checked_limit(given.integer("limit"), settings)


def checked_limit(limit: int | None, settings: Settings) -> int:
    """As `limit_of`, of a limit that was read already; None if there is none."""
    if limit is None:
        return min(DEFAULT, settings.api_max_limit)
    if limit <= 0:
        raise Fault(400, f"Limit must be positive. It is {limit}. Write 1 or more, or leave it out for {DEFAULT}")
    if limit > settings.api_max_limit:
        raise invalid("limit", limit, f"At most {settings.api_max_limit:,} at once. Ask for the next page with marker")
    return limit


def marker_of(given: Given) -> str | None:
    """The id of the last one of the page before; None for the first page.

    Raises:
        Fault: no store can hold it: status 400.
    """
    marker = given.text("marker")
    if marker is not None and (not marker or "\0" in marker or len(marker) > MAX_MARKER):
        raise invalid("marker", marker, "Write the id of the last one of the page before")
    return marker


MAX_MARKER: Final = 4_096


def unknown_marker(kind: str, marker: str) -> Fault:
    """The answer to a marker that names nothing that the caller can see."""
    return invalid("marker", marker, f"There is no such {kind}. Write the id of the last one of the page before")
