"""Where in a text an error is."""

import re
from typing import Final

MARK: Final = "-->"
_AROUND: Final = 30
_SPACE: Final = re.compile(r"\s")


def place(text: str, at: int) -> str:
    """The column of a place in a text, and the text around it: `column 7, at '(a or --> b'`.

    Args:
        text: the whole text.
        at: the place, from 0.
    """
    shown = _SPACE.sub(" ", text)
    before, after = shown[max(at - _AROUND, 0) : at], shown[at : at + _AROUND]
    cut = "…" if at > _AROUND else ""
    more = "…" if len(text) > at + _AROUND else ""
    return f"column {at + 1}, at '{cut}{before}{MARK} {after}{more}'"
