"""Files that ship with the code: the default definitions, the quality rules, migrations; see `sql_files` for SQL.

In a checkout, `sql/` and `quality/rules.yaml` are beside this package. A wheel has copies of them inside the package,
in `data/` (see `[tool.hatch.build]` in pyproject.toml), so that it installs no other top-level name.
"""

from pathlib import Path
from typing import Final

from meterhouse.errors import MeterhouseError
from meterhouse.sql_files import BESIDE

_PACKAGE: Final = Path(__file__).parent
_BESIDE: Final = Path(BESIDE)

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
