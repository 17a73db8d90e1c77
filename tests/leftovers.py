"""Looks for texts in every byte that a site stores: files as they are, decompressed, and decoded from Parquet."""

import gzip
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow.parquet as pq
from sqlalchemy import inspect, text

from meterhouse.site import Site


def left(site: Site, texts: Sequence[str]) -> list[str]:
    """Where one of the texts is still stored: files of the lake, of METERHOUSE_HOME and rows of the warehouse."""
    found = []
    for name, content in _contents(site):
        found += [f"{name}: {one}" for one in texts if one.encode() in content]
    with site.warehouse.read() as connection:
        for table in inspect(connection).get_table_names():
            for row in connection.execute(text(f'SELECT * FROM "{table}"')):
                found += [f"{table}: {one}" for one in texts if one in repr(tuple(row))]
    return found


def _contents(site: Site) -> Iterator[tuple[str, bytes]]:
    for path in sorted(site.settings.home_path.rglob("*")):
        if path.is_file():
            yield str(path), path.read_bytes()
            yield from _decoded(str(path), path.read_bytes())
    if site.lake.storage_options:
        for uri in site.lake.filesystem.find(site.lake.url):
            content = bytes(site.lake.filesystem.cat_file(uri))
            yield uri, content
            yield from _decoded(uri, content)


def _decoded(name: str, content: bytes) -> Iterator[tuple[str, bytes]]:
    if name.endswith(".parquet"):
        rows = pq.read_table(io.BytesIO(content))
        yield f"{name} rows", repr(rows.to_pylist()).encode()
    elif ".gz" in Path(name).suffixes:
        yield f"{name} lines", gzip.decompress(content)
