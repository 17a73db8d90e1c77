"""Texts that others wrote, such as names in messages, in a form that controls neither terminal nor spreadsheet."""

import re
from typing import Final

_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""With what a cell begins that a spreadsheet takes for a formula (OWASP, CSV Injection)."""

_CONTROL: Final = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
"""What a terminal or viewer obeys: controls but tab and line feed, and marks that change the direction of writing."""


def printable(text: str) -> str:
    """The text with escapes in place of what is not printable: whoever wrote it has no say on a terminal."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def csv_cell(text: str) -> str:
    """The text for a cell of CSV that people open.

    One that a spreadsheet would take for a formula, and is not a number, gets a leading `'`. Escapes stand for what
    controls a terminal; tabs and line feeds stay.
    """
    safe = _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), text)
    if not text.startswith(_FORMULA):
        return safe
    try:
        float(text)
    except ValueError:
        return f"'{safe}"
    return safe


def json_text(text: str) -> str:
    """JSON in which escapes of JSON stand for what controls a terminal: whoever reads it gets the same values."""
    return _CONTROL.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def is_plain(text: str, *, lines: bool = False) -> bool:
    """Whether a text has no control characters, so that every database, statement and terminal takes it.

    Args:
        text: the text.
        lines: whether it may have several lines.
    """
    if text.isascii() and text.isprintable():
        return True
    try:
        text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair
        return False
    return all(each >= " " and not "\x7f" <= each <= "\x9f" for each in text if not (lines and each in "\n\t"))
