"""Tables for a terminal: what is printed cannot control it, and fits its width, counted in cells."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

Kind = Literal["text", "number", "time", "whole", "prose"]

GAP = 2
"""Cells between two columns."""

SHORTEST_TEXT = 8
SHORTEST_TIME = 17
"""To how many cells a text, and a time (which then has its minute), may be shortened."""


def cells(text: str) -> int:
    """How many cells a printable text takes: two for a wide character, none for a combining one."""
    return len(text) if text.isascii() else sum(map(_cells_of, text))


def _cells_of(character: str) -> int:
    import unicodedata

    if unicodedata.category(character) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def shortened(text: str, width: int) -> str:
    """The text, cut to a width with `…` at its end if it is longer."""
    if cells(text) <= width:
        return text
    return f"{_head(text, width - 1)}…"


def _head(text: str, width: int) -> str:
    """As many characters of the text as fit."""
    used = 0
    for place, character in enumerate(text):
        used += _cells_of(character)
        if used > width:
            return text[:place]
    return text


def wrapped(text: str, width: int) -> list[str]:
    """The text in lines of at most a width, broken at spaces where there are some."""
    lines: list[str] = []
    while cells(text) > width:
        head = _head(text, width) or text[0]  # a wide character in a width of one cell
        space = head.rfind(" ") if text[len(head) : len(head) + 1] != " " else len(head)
        end = space if space > 0 else len(head)
        lines.append(text[:end])
        text = text[end:].lstrip(" ")
    return [*lines, text]


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        name: its heading.
        values: its cells, printable.
        kind: numbers are aligned to the right. They and what is `whole` are never shortened, prose is wrapped instead.
    """

    name: str
    values: Sequence[str]
    kind: Kind = "text"

    @cached_property
    def width(self) -> int:
        """The cells that it needs."""
        return max(map(cells, [self.name, *self.values]))

    @cached_property
    def narrowest(self) -> int:
        """The cells that it needs at least."""
        own = max(map(cells, self.values), default=0)
        if self.kind in ("number", "whole"):
            return max(own, min(cells(self.name), SHORTEST_TEXT))
        return min(self.width, SHORTEST_TIME if self.kind == "time" else SHORTEST_TEXT)


def fit(columns: Sequence[Column], room: int) -> list[int]:
    """The widths with which columns fit into a room; the last columns are left out if there is none for them.

    Narrow columns stay whole, and the widest ones are shortened to one width.
    """
    widths, least = [column.width for column in columns], [column.narrowest for column in columns]
    while len(least) > 1 and sum(least) + GAP * (len(least) - 1) > room:
        least.pop()
    spare = room - GAP * (len(least) - 1)
    cap = min(max(widths, default=0), room)
    while cap > 0 and sum(_capped(widths, least, cap)) > spare:
        cap -= 1
    fitted = _capped(widths, least, cap)
    for place, width in enumerate(fitted):
        if width < widths[place] and sum(fitted) < spare:
            fitted[place] += 1
    return [min(width, room) for width in fitted]


def _capped(widths: Sequence[int], least: Sequence[int], cap: int) -> list[int]:
    return [max(low, min(width, cap)) for width, low in zip(widths, least, strict=False)]


def lines(columns: Sequence[Column], room: int | None) -> tuple[list[str], list[str]]:
    """A table's lines, the heading first, and the names of the columns that are left out for lack of room.

    Args:
        columns: at least one.
        room: cells of a line; None for as many as are needed.
    """
    widths = [column.width for column in columns] if room is None else fit(columns, room)
    shown = columns[: len(widths)]
    made = [_line([column.name for column in shown], shown, widths)]
    for row in zip(*(column.values for column in shown), strict=True):
        pieces = [
            wrapped(value, width) if column.kind == "prose" else [value]
            for value, column, width in zip(row, shown, widths, strict=True)
        ]
        for number in range(max(map(len, pieces))):
            made.append(_line([piece[number] if number < len(piece) else "" for piece in pieces], shown, widths))
    return made, [column.name for column in columns[len(widths) :]]


def _line(values: Sequence[str], columns: Sequence[Column], widths: Sequence[int]) -> str:
    padded = []
    for value, column, width in zip(values, columns, widths, strict=True):
        text = shortened(value, width)
        padding = " " * (width - cells(text))
        padded.append(padding + text if column.kind == "number" else text + padding)
    return (" " * GAP).join(padded).rstrip()
