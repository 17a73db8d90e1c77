"""Builds the input of tests: notifications, batches of polled samples, points, spool files."""

import gzip
import itertools
import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa

from meterhouse import identity, times
from meterhouse.catalog import catalog
from meterhouse.collection.collect import collect
from meterhouse.conversion.step import convert
from meterhouse.progress import Progress, no_progress
from meterhouse.rollups.following import follow, keep_following
from meterhouse.rollups.step import RolledUp
from meterhouse.rollups.step import roll_up as _roll_up
from meterhouse.sample_quality.step import judge_hours
from meterhouse.site import Site
from meterhouse.stores.lake_tables import SAMPLES

NOON = datetime(2026, 11, 10, 12, tzinfo=UTC)
"""An event hour well before any test runs."""

_numbers = itertools.count()


def at(minutes: float = 0, *, hours: float = 0, days: float = 0) -> datetime:
    """A time after NOON."""
    return NOON + timedelta(minutes=minutes, hours=hours, days=days)


def notification(message_id: str, event_type: str = "compute.instance.exists", /, **more: Any) -> dict[str, Any]:
    """A bare notification that yields one event and no sample."""
    message = {
        "event_type": event_type,
        "message_id": message_id,
        "publisher_id": "compute.host1",
        "priority": "INFO",
        "timestamp": "2026-11-10 12:00:00.000000",
        "payload": {"instance_id": f"instance-of-{message_id}", "tenant_id": "p1", "user_id": "u1"},
    }
    return {**message, **more}


def polled(
    volume: Any,
    when: datetime = NOON,
    *,
    meter: str = "cpu_util",
    type: str = "gauge",
    resource: str = "r1",
    project: str | None = "p1",
    message_id: str | None = None,
    **more: Any,
) -> dict[str, Any]:
    """One polled sample, as a polling agent writes it."""
    return {
        "source": "openstack",
        "counter_name": meter,
        "counter_type": type,
        "counter_unit": "%",
        "counter_volume": volume,
        "resource_id": resource,
        "project_id": project,
        "user_id": "u1",
        "timestamp": when.isoformat(),
        "message_id": message_id or f"sample-{next(_numbers)}",
        "resource_metadata": {"host": "h1"},
        **more,
    }


def polling(message_id: str, samples: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """A batch of polled samples."""
    return notification(message_id, "telemetry.polling", priority="SAMPLE", payload={"samples": list(samples)})


def enveloped(message: dict[str, Any]) -> dict[str, Any]:
    """The message in oslo.messaging's envelope."""
    return {"oslo.version": "2.0", "oslo.message": json.dumps(message)}


def line(message: Any) -> bytes:
    """The message as a line of a spool file; bytes as they are."""
    return message if isinstance(message, bytes) else json.dumps(message).encode()


def drop(folder: Path, name: str, messages: Iterable[Any]) -> Path:
    """Write a spool file by rename; compressed if its name says so."""
    folder.mkdir(parents=True, exist_ok=True)
    content = b"".join(line(message) + b"\n" for message in messages)
    part = folder / f".{name}"
    part.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return part.rename(folder / name)


def point(
    volume: float,
    when: datetime = NOON,
    *,
    meter: str = "m",
    type: str = "gauge",
    resource: str = "r1",
    project: str | None = "p1",
    unit: str | None = "u",
    recorded_at: datetime | None = None,
    sample_id: int | None = None,
) -> dict[str, Any]:
    """A row of the lake's `samples`; by default it was recorded at its own time."""
    dims = ("openstack", meter, type, unit, resource, project, "u1")
    recorded_at = recorded_at or when
    return {
        "arrival_hour": times.arrival_hour(recorded_at),
        "series_id": identity.series_id(*dims),
        "timestamp": when,
        "volume": volume,
        "sample_id": next(_numbers) if sample_id is None else sample_id,
        "recorded_at": recorded_at,
        **dict(zip(("source", "meter", "type", "unit", "resource_id", "project_id", "user_id"), dims, strict=True)),
        "metadata_id": None,
    }


def land_points(site: Site, points: Sequence[dict[str, Any]]) -> None:
    """Append points to the lake's `samples`, and catalog them."""
    site.lake.append("samples", pa.Table.from_pylist(list(points), schema=SAMPLES))
    catalog(site)


def roll_up(site: Site, only: set[datetime] | None = None, *, progress: Progress = no_progress) -> RolledUp:
    """Roll up, and let the warehouse follow, as every command does."""
    done = _roll_up(site, only, progress=keep_following(site, progress=progress))
    follow(site)
    return done


def process(site: Site) -> None:
    """Run every step once, from the stream to the roll-ups."""
    collect(site)
    convert(site)
    catalog(site)
    judge_hours(site)
    roll_up(site)


def rows(site: Site, table: str, columns: str = "*", where: str = "true", order: str = "ALL") -> list[dict[str, Any]]:
    """Rows of a lake table."""
    with site.lake.connect() as duck:
        site.lake.view(duck, table, site.lake.files(table))
        found = duck.execute(f"SELECT {columns} FROM {table} WHERE {where} ORDER BY {order}")
        names = [column[0] for column in found.description or ()]
        return [dict(zip(names, row, strict=True)) for row in found.fetchall()]


def count(site: Site, table: str, where: str = "true") -> int:
    """The number of rows of a lake table."""
    return int(rows(site, table, "count(*) AS n", where)[0]["n"])


def warehouse_rows(site: Site, query: str) -> list[tuple[Any, ...]]:
    """Rows of a query on the warehouse."""
    from sqlalchemy import text

    with site.warehouse.read() as connection:
        return [tuple(row) for row in connection.execute(text(query))]
