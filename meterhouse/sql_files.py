"""The SQL files: `sql/` beside the package in a checkout, a copy inside it in a wheel (see `shipped`).

Listing reports needs this module alone, so it does without pathlib, which takes longer to import than to use.
"""

import os
from functools import cache
from typing import Final

_PACKAGE: Final = os.path.dirname(os.path.abspath(__file__))
_COPIES: Final = os.path.join(_PACKAGE, "data")

BESIDE: Final = _COPIES if os.path.isdir(_COPIES) else os.path.dirname(_PACKAGE)
"""The folder that holds `sql/` and `quality/`."""


@cache
def read(path: str) -> str:
    """The text of a SQL file, by its path below `sql/`."""
    with open(os.path.join(BESIDE, "sql", path), encoding="utf-8") as file:
        return file.read()


def names(folder: str) -> list[str]:
    """The names (without `.sql`) of the SQL files in a folder below `sql/`, sorted."""
    found = os.listdir(os.path.join(BESIDE, "sql", folder))
    return sorted(name.removesuffix(".sql") for name in found if name.endswith(".sql"))
