"""The function by which reports order texts, whatever the collation of the database"""

from alembic import op

revision = "0018"
down_revision = "0017"

_BYTE_ORDER = (  # SQLite's is in meterhouse/stores/sqlite_functions.py
    "CREATE OR REPLACE FUNCTION byte_order(value text) RETURNS bytea LANGUAGE sql STABLE PARALLEL SAFE "
    "AS $$ SELECT convert_to(value, 'UTF8') $$"
)


def upgrade() -> None:
    if op.get_bind().dialect.name == "postgresql":
        op.execute(_BYTE_ORDER)
