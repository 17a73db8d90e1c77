"""The tokens of a SQL statement, told apart as far as names and parameters need it: texts and comments have neither."""

import re
from typing import Final

TOKEN: Final = re.compile(
    r"""
    (?P<comment>--[^\n]*|/\*.*?(?:\*/|\Z))
    |(?P<quoted>[eE]'(?:[^'\\]|\\.|'')*(?:'|\Z)|'(?:[^']|'')*(?:'|\Z)|\$(?P<tag>\w*)\$.*?(?:\$(?P=tag)\$|\Z))
    |"(?P<identifier>(?:[^"]|"")*)(?:"|\Z)
    |(?P<parameter>(?<!:):[A-Za-z_]\w*)
    |(?P<word>[A-Za-z_]\w*)
    |(?P<end>;)
    |(?P<other>::|.)
    """,
    re.VERBOSE | re.DOTALL,
)
"""One token; its last group says what it is."""


def for_psycopg(query: str) -> str:
    """The statement with `%(NAME)s` for each parameter `:NAME`, a time, and `%%` for each percent sign."""
    parts = []
    for token in TOKEN.finditer(query):
        if token.lastgroup == "parameter":
            parts.append(f"%({token[0][1:]})s::timestamptz")
        else:
            parts.append(token[0].replace("%", "%%"))
    return "".join(parts)
