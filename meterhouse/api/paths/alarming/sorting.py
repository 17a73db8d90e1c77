"""The argument `sort` of lists: `KEY` or `KEY:DIRECTION`, which may be repeated."""

from collections.abc import Sequence
from typing import Final

from meterhouse.api.answers.faults import invalid
from meterhouse.api.requests.arguments import Argument, Given

SORT: Final = Argument(
    "sort",
    "What the list is ordered by: KEY, KEY:asc or KEY:desc; repeated for several keys.",
    repeated=True,
    example="name:asc",
)

MAX_KEYS: Final = 10
"""Maximum number of keys."""


def order_of(given: Given, known: Sequence[str]) -> list[tuple[str, bool]]:
    """The keys that a list is ordered by, and whether each is descending; empty for the usual order.

    Args:
        given: the arguments of a request.
        known: the keys that there are.

    Raises:
        Fault: there is no such key or direction: status 400.
    """
    keys = given.texts("sort")
    if len(keys) > MAX_KEYS:
        raise invalid("sort", f"{len(keys):,} keys", f"Give at most {MAX_KEYS}")
    return [_key(text, known) for text in keys]


def _key(text: str, known: Sequence[str]) -> tuple[str, bool]:
    key, _, direction = text.partition(":")
    if key not in known or direction.lower() not in ("", "asc", "desc"):
        raise invalid(
            "sort",
            text,
            "the sort parameter should be a pair of sort key and sort dir combined with ':', or only sort key. "
            f"Keys: {', '.join(known)}. Directions: asc, desc",
        )
    return key, direction.lower() == "desc"
