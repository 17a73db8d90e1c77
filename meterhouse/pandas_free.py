"""A process without pandas.

PyArrow imports pandas, if it is installed, with the first value that it converts. That takes as long as starting
DuckDB, Arrow and Delta together, and no command uses it.
"""

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType


class _NoPandas:
    """A finder of `sys.meta_path`. It derives from no abstract class, for these take a tenth of a start to import."""

    def find_spec(
        self, name: str, path: "Sequence[str] | None", target: "ModuleType | None" = None
    ) -> "ModuleSpec | None":
        if name == "pandas":
            raise ModuleNotFoundError("this process does without pandas", name=name)
        return None


def keep_pandas_out() -> None:
    """From now on `import pandas` fails in this process as if pandas were not installed."""
    sys.meta_path.insert(0, _NoPandas())
