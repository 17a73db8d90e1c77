"""SQL as files: `lake/` for DuckDB on the lake, `warehouse/` for SQLite or PostgreSQL, `migrations/` for Alembic."""

from functools import cache
from importlib.resources import files


@cache
def read(path: str) -> str:
    """The text of a SQL file, by its path below this folder."""
    return files("sql").joinpath(path).read_text(encoding="utf-8")


def names(folder: str) -> list[str]:
    """The names (without `.sql`) of the SQL files in a folder below this one."""
    found = (entry.name for entry in files("sql").joinpath(folder).iterdir())
    return sorted(name.removesuffix(".sql") for name in found if name.endswith(".sql"))
