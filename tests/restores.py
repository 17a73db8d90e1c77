"""Copies of a site's stores, taken and put back as a backup does, and the figures that a site must have."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from builders import rows, warehouse_rows
from sqlalchemy import delete, insert, select

from meterhouse.site import Site
from meterhouse.stores.warehouse_tables import metadata

Files = dict[str, bytes]
Tables = dict[str, list[dict[str, Any]]]


def copy_lake(site: Site, below: str = "") -> Files:
    """The content of every file of the lake, or of those below a path."""
    base = f"{site.lake.url}/{below}".removeprefix("s3://")
    return {path: site.lake.filesystem.cat_file(path) for path in site.lake.filesystem.find(base)}


def put_lake(site: Site, files: Files, below: str = "") -> Site:
    """Replace the lake, or what is below a path, by a copy; return the site as a new process opens it."""
    system = site.lake.filesystem
    base = f"{site.lake.url}/{below}".removeprefix("s3://")
    for path in system.find(base):
        system.rm_file(path)
    for path, content in files.items():
        system.makedirs(path.rpartition("/")[0], exist_ok=True)
        system.pipe_file(path, content)
    return replace(site)


def copy_warehouse(site: Site) -> Tables:
    """All rows of the warehouse."""
    with site.warehouse.read() as connection:
        return {
            table.name: [dict(row._mapping) for row in connection.execute(select(table))]
            for table in metadata.sorted_tables
        }


def put_warehouse(site: Site, tables: Tables) -> Site:
    """Replace the warehouse's rows by a copy, none of which is an empty warehouse; return the site anew."""
    with site.warehouse.begin() as connection:
        for table in metadata.sorted_tables:
            connection.execute(delete(table))
            if tables.get(table.name):
                connection.execute(insert(table), tables[table.name])
    return replace(site)


def expected(points: Iterable[dict[str, Any]]) -> dict[tuple[int, str], tuple[int, float]]:
    """Count and sum by series and hour, each point once."""
    once = {(point["series_id"], point["timestamp"], point["sample_id"]): point for point in points}
    found: dict[tuple[int, str], list[float]] = defaultdict(list)
    for point in once.values():
        found[point["series_id"], f"{point['timestamp']:%Y-%m-%d %H}"].append(point["volume"])
    return {key: (len(volumes), sum(volumes)) for key, volumes in found.items()}


def rolled_up(site: Site) -> dict[tuple[int, str], tuple[int, float]]:
    """Count and sum by series and hour in the lake's roll-ups, which the warehouse's must equal."""
    columns = "series_id, strftime(bucket, '%Y-%m-%d %H') AS hour, count, sum"
    in_lake = {
        (row["series_id"], row["hour"]): (row["count"], row["sum"])
        for row in rows(site, "rollups", columns, "granularity_s = 3600")
    }
    in_warehouse = {
        (row[0], str(row[1])[:13]): (row[2], row[3])
        for row in warehouse_rows(site, "SELECT series_id, bucket, count, sum FROM rollup_1h")
    }
    assert in_warehouse == in_lake
    days = {
        (row[0], str(row[1])[:10]): row[2]
        for row in warehouse_rows(site, "SELECT series_id, bucket, count FROM rollup_1d")
    }
    by_day: dict[tuple[int, str], int] = defaultdict(int)
    for (series, hour), (count, _) in in_lake.items():
        by_day[series, hour[:10]] += count
    assert days == by_day
    return in_lake
