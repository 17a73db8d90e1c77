"""Files that ship with the code: SQL, the quality rules, the default definitions.

In a checkout, `sql/` and `quality/rules.yaml` are beside this package. A wheel has copies of them inside the package,
in `data/` (see `[tool.hatch.build]` in pyproject.toml), so that it installs no other top-level name.
"""

from functools import cache
from pathlib import Path
from typing import Final

from meterhouse.errors import MeterhouseError

_PACKAGE: Final = Path(__file__).parent
_COPIES: Final = _PACKAGE / "data"
_BESIDE: Final = _COPIES if _COPIES.is_dir() else _PACKAGE.parent

DEFAULTS: Final = _PACKAGE / "defaults"
"""The folder of the default definition files."""

QUALITY_RULES: Final = _BESIDE / "quality" / "rules.yaml"
"""The default quality rules."""

MIGRATIONS: Final = _BESIDE / "sql" / "migrations"
"""The folder of Alembic's scripts."""


def code_location() -> Path:
    """The checkout's folder, with `definitions.py`, `workspace.yaml` and `dagster.yaml`.

    Raises:
        MeterhouseError: this is an installed package, which has no Dagster code location.
    """
    if not (_PACKAGE.parent / "workspace.yaml").is_file():
        raise MeterhouseError(
            "this installation has no Dagster code location",
            hint="Run this in a checkout of Meterhouse; the operator guide says how to deploy one",
        )
    return _PACKAGE.parent


@cache
def sql(path: str) -> str:
    """The text of a SQL file. `path` is relative to `sql/`."""
    return (_BESIDE / "sql" / path).read_text(encoding="utf-8")


def sql_names(folder: str) -> list[str]:
    """The names, without `.sql`, of the SQL files in a folder of `sql/`, sorted."""
    return sorted(path.stem for path in (_BESIDE / "sql" / folder).glob("*.sql"))
