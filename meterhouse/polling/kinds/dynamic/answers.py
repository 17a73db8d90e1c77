"""Finds in an answer its entries and the URL of the next page."""

from typing import Any

from meterhouse.polling.expressions import Attribute, ExpressionError
from meterhouse.polling.polled import PollError


def entries_of(answer: Any, at: Attribute | None, where: str) -> list[Any]:
    """The entries of an answer: a list itself, or what stands under a key. What is there alone is the only entry.

    Args:
        answer: as a handler read it.
        at: where the entries are; None: under the first key. It says nothing about an answer that is a list.
        where: of which address the answer is, for an error.

    Raises:
        PollError: the answer has none where they should be.
    """
    if isinstance(answer, list):
        return answer
    if answer is None or answer == {}:
        return []
    if not isinstance(answer, dict):
        raise PollError(f"the answer is a {_kind(answer)}, neither a list nor a mapping", where=where)
    if at is None:
        found = next(iter(answer.values()))
        name = str(next(iter(answer)))
    else:
        name = at.text
        try:
            found = at(answer)
        except ExpressionError as error:
            raise PollError(
                f"the answer has no entries: {error}", where=where, hint="Check response_entries_key"
            ) from None
    if found is None:
        return []
    if isinstance(found, dict):
        return [found]
    if not isinstance(found, list):
        raise PollError(
            f"what the answer has under '{name[:80]}' is a {_kind(found)}, not a list",
            where=where,
            hint="Set response_entries_key",
        )
    return found


def next_url_of(answer: Any, at: Attribute | None) -> str | None:
    """The URL of the next page; None if this is the last."""
    if at is None:
        return None
    try:
        found = at(answer)
    except ExpressionError:
        return None
    return found if isinstance(found, str) and found else None


def _kind(value: Any) -> str:
    return {bool: "truth value", str: "text", int: "number", float: "number"}.get(type(value), type(value).__name__)
