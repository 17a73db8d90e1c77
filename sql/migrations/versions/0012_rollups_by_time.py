"""Roll-ups in the order of time, partitioned in PostgreSQL; views have the names that the tables had

The rows are moved a piece after the other. SQLite stores each piece before the next, so that a large site needs no
second copy of its rows; if that is interrupted, it continues.
"""

from datetime import datetime, timedelta

import sqlalchemy as sa
from alembic import op

from meterhouse import times
from meterhouse.stores.warehouse_partitions import make_room
from meterhouse.stores.warehouse_tables import Micros, UtcTime, daily, hourly

revision = "0012"
down_revision = "0011"

_COLUMNS = ("count", "sum", "min", "max", "sum_squares", "first", "first_at", "last", "last_at", "increase", "resets")
_MORE = ("p50", "p95", "p99", "excluded")
_TIMES = ("first_at", "last_at")

_OPEN_HOURS = """
CREATE VIEW open_hours AS
SELECT d.hour FROM dirty_hours AS d
WHERE d.marks > d.rolled_marks
OR d.rolled_version > coalesce((SELECT w.version FROM followed AS w WHERE w.follower = 'warehouse'), 0)
"""

_HOLDS = """
CREATE VIEW warehouse_holds AS
SELECT
    CASE WHEN o.hour < s.committed_at OR s.committed_at IS NULL THEN o.hour ELSE s.committed_at END AS holds_until,
    s.committed_at AS came_until
FROM (SELECT min(hour) AS hour FROM open_hours) AS o
LEFT JOIN (SELECT committed_at FROM followed WHERE follower = 'samples') AS s ON 1 = 1
"""


def upgrade() -> None:
    bind = op.get_bind()
    if "rolled_version" not in {column["name"] for column in sa.inspect(bind).get_columns("dirty_hours")}:
        op.add_column("dirty_hours", sa.Column("rolled_version", sa.BigInteger(), nullable=True))
    there, seen = set(sa.inspect(bind).get_table_names()), set(sa.inspect(bind).get_view_names())
    for old, table, piece in (
        ("rollup_1h", hourly, timedelta(days=1)),
        ("rollup_1d", daily, timedelta(days=31)),
    ):
        if table.name not in there:
            _create(table.name)
        if old in there:
            _move(bind, old, table, piece)
            op.drop_table(old)
        if old not in seen:
            op.execute(f"CREATE VIEW {old} AS SELECT {_shown(bind)} FROM {table.name}")
    for name, statement in (("open_hours", _OPEN_HOURS), ("warehouse_holds", _HOLDS)):
        if name not in seen:
            op.execute(statement)
    # Up to here, the roll-up wrote the rows itself: as of the version that it has recorded, or as of now.
    op.execute(
        "INSERT INTO followed (follower, version, mark, committed_at) "
        "SELECT 'warehouse', version, mark, committed_at FROM followed WHERE follower = 'rollups' "
        "AND NOT EXISTS (SELECT 1 FROM followed WHERE follower = 'warehouse')"
    )
    followed = sa.Table(
        "followed", sa.MetaData(), sa.Column("follower"), sa.Column("version"), sa.Column("committed_at", UtcTime)
    )
    known = bind.execute(sa.select(followed.c.version).where(followed.c.follower == "warehouse")).first()
    if known is None and bind.execute(sa.select(daily.c.bucket).limit(1)).first() is not None:
        bind.execute(followed.insert().values(follower="warehouse", version=0, committed_at=times.now()))


def _create(name: str) -> None:
    more = [sa.Column("metadata_id", sa.BigInteger(), nullable=True)] if name == daily.name else []
    op.create_table(
        name,
        sa.Column("bucket", UtcTime(), nullable=False),
        sa.Column("series_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("count", sa.BigInteger(), nullable=False),
        *(sa.Column(each, sa.Float(precision=53)) for each in ("sum", "min", "max", "sum_squares", "first")),
        sa.Column("first_at", Micros(), nullable=True),
        sa.Column("last", sa.Float(precision=53), nullable=True),
        sa.Column("last_at", Micros(), nullable=True),
        sa.Column("increase", sa.Float(precision=53), nullable=True),
        sa.Column("resets", sa.BigInteger(), nullable=True),
        *(sa.Column(each, sa.Float(precision=53)) for each in ("p50", "p95", "p99")),
        sa.Column("excluded", sa.BigInteger(), nullable=False),
        *more,
        sa.PrimaryKeyConstraint("bucket", "series_id"),
        comment="Written when the warehouse follows the lake; to be read through the view.",
        sqlite_with_rowid=False,
        postgresql_partition_by="RANGE (bucket)",
    )
    if name == daily.name:
        op.create_index("rollup_1d_rows_by_series", name, ["series_id", "bucket"])


def _move(bind: sa.Connection, old: str, table: sa.Table, piece: timedelta) -> None:
    """Copy the rows, `piece` of event time at once, in the order of the new table."""
    columns = ", ".join(f'"{name}"' for name in ("bucket", "series_id", *_COLUMNS, *_MORE))
    values = ", ".join(_stored(bind, name) for name in ("bucket", "series_id", *_COLUMNS, *_MORE))
    found = sa.Table(old, sa.MetaData(), sa.Column("bucket", UtcTime))
    start: datetime | None = None
    while True:
        first = sa.select(sa.func.min(found.c.bucket))
        start = bind.execute(first if start is None else first.where(found.c.bucket >= start)).scalar()
        if start is None:
            return
        end = start + piece
        make_room(bind, table, (start + n * timedelta(days=1) for n in range(piece.days + 1)))
        within = sa.text(
            f"INSERT INTO {table.name} ({columns}) SELECT {values} FROM {old} "
            "WHERE bucket >= :start AND bucket < :end ORDER BY bucket, series_id"
        )
        bind.execute(
            within.bindparams(*(sa.bindparam(name, type_=UtcTime) for name in ("start", "end"))),
            {"start": start, "end": end},
        )
        if bind.dialect.name == "sqlite":
            bind.execute(sa.delete(found).where(found.c.bucket < end))  # its pages are used for the next piece
            bind.commit()
        start = end


def _stored(bind: sa.Connection, name: str) -> str:
    """A column of the old table as the new one stores it."""
    if name not in _TIMES or bind.dialect.name != "sqlite":
        return f'"{name}"'
    seconds, micros = f"strftime('%s', substr(\"{name}\", 1, 19))", f'substr("{name}", 21, 6)'
    return f"CAST({seconds} AS INTEGER) * 1000000 + CAST({micros} AS INTEGER)"


def _shown(bind: sa.Connection) -> str:
    """The columns of the view, as the old table had them."""
    columns = []
    for name in ("series_id", "bucket", *_COLUMNS, *_MORE):
        if name in _TIMES and bind.dialect.name == "sqlite":
            seconds = f"strftime('%Y-%m-%d %H:%M:%S', {name} / 1000000, 'unixepoch')"
            columns.append(f"{seconds} || printf('.%06d', {name} % 1000000) AS {name}")
        else:
            columns.append(f'"{name}"')
    return ", ".join(columns)
