"""The warehouse's clock: of the database's server if there is one, because the clocks of machines differ."""

from datetime import UTC, datetime

from sqlalchemy import Connection, func, select

from meterhouse import times


def present(connection: Connection) -> datetime:
    """The present instant, UTC: by which leases run out and attempts are due."""
    if connection.dialect.name != "postgresql":
        return times.now()
    instant: datetime = connection.execute(select(func.clock_timestamp())).scalar_one()
    return instant.astimezone(UTC)
