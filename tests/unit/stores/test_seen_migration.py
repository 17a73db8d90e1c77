"""Series and resources of an older site, which excluded points have spoilt, are right after the migration."""

from datetime import UTC, datetime
from typing import Any

import pytest
from alembic import command
from alembic.config import Config
from builders import at
from sqlalchemy import Connection, select, text

from meterhouse import shipped, times
from meterhouse.stores.warehouse import Warehouse
from meterhouse.stores.warehouse_tables import dirty_hours, metadata, resources, rollup_1d, series

AHEAD = datetime(2099, 1, 1, tzinfo=UTC)


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.service)])
def empty(request: pytest.FixtureRequest, tmp_path: Any) -> Warehouse:
    """A warehouse without a schema."""
    sqlite = f"sqlite:///{tmp_path}/warehouse.db"
    return Warehouse(request.getfixturevalue("postgres_url") if request.param == "postgres" else sqlite)


def upgrade(connection: Connection, revision: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(shipped.MIGRATIONS))
    config.attributes.update(connection=connection, metadata=metadata)
    command.upgrade(config, revision)
    connection.commit()


def test_an_older_sites_series_and_resources_are_corrected_from_its_daily_roll_ups(empty: Warehouse) -> None:
    with empty.engine.connect() as connection:
        upgrade(connection, "0007")
        before = [
            (1, "r1", "shop", at(), at(40)),
            (2, "r1", "other", AHEAD, AHEAD),  # its only point is excluded
            (3, "r2", "lab", at(), at(30)),
            (4, "r3", "lab", at(days=-9), at(days=2)),  # its first and last points are excluded
        ]
        for number, resource, project, first, last in before:
            connection.execute(
                text(
                    "INSERT INTO series (series_id, source, meter, type, resource_id, project_id, first_seen, "
                    "last_seen) VALUES (:number, 'openstack', 'm', 'gauge', :resource, :project, :first, :last)"
                ).bindparams(number=number, resource=resource, project=project),
                {"first": _bound(empty, first), "last": _bound(empty, last)},
            )
        for resource, project, first, last in (
            ("r1", "other", at(), AHEAD),
            ("r2", "lab", at(), at(30)),
            ("r3", "lab", at(days=-9), at(days=2)),
        ):
            connection.execute(
                text(
                    "INSERT INTO resources (source, resource_id, project_id, first_sample_at, last_sample_at, "
                    "metadata_id) VALUES ('openstack', :resource, :project, :first, :last, 5)"
                ).bindparams(resource=resource, project=project),
                {"first": _bound(empty, first), "last": _bound(empty, last)},
            )
        for number, day, count, first, last in (
            (1, 0, 2, at(), at(40)),
            (2, 26_000, 0, None, None),
            (3, 0, 2, at(), at(30)),
            (4, -9, 0, None, None),
            (4, -1, 1, at(days=-1), at(days=-1)),
            (4, 1, 1, at(days=1), at(days=1)),
            (4, 2, 0, None, None),
        ):
            bucket = times.day_start(at(days=day).date())
            connection.execute(
                rollup_1d.insert().values(
                    series_id=number, bucket=bucket, count=count, first_at=first, last_at=last, excluded=0
                )
            )
        for hour in (at(), at(days=1), at(days=2)):
            connection.execute(
                dirty_hours.insert().values(hour=hour, marks=1, judged_marks=1, rolled_marks=1, marked_at=hour)
            )
        connection.commit()
        upgrade(connection, "head")
        order = select(series.c.series_id, series.c.first_seen, series.c.last_seen).order_by(series.c.series_id)
        assert [tuple(row) for row in connection.execute(order)] == [
            (1, at(), at(40)),
            (2, None, None),
            (3, at(), at(30)),
            (4, at(days=-1), at(days=1)),
        ]
        points = select(series.c.first_point_at, series.c.last_point_at).order_by(series.c.series_id)
        assert [tuple(row) for row in connection.execute(points)] == [row[3:] for row in before]
        columns = ("resource_id", "project_id", "first_sample_at", "last_sample_at", "metadata_id")
        found = connection.execute(select(*(resources.c[name] for name in columns)).order_by("resource_id"))
        assert [tuple(row) for row in found] == [
            ("r1", "shop", at(), at(40), None),
            ("r2", "lab", at(), at(30), 5),
            ("r3", "lab", at(days=-1), at(days=1), None),
        ]
        # Their metadata is read when these hours are rolled up again.
        dirty = select(dirty_hours.c.hour).where(dirty_hours.c.marks > dirty_hours.c.rolled_marks)
        assert sorted(connection.execute(dirty).scalars()) == [at(), at(days=1)]
    empty.engine.dispose()


def _bound(warehouse: Warehouse, moment: datetime) -> Any:
    return f"{moment:%Y-%m-%d %H:%M:%S.%f}" if warehouse.is_sqlite else moment
