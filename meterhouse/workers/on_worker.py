"""A pass on a worker of a cluster: checks that the worker is like the process that has sent it, and does it."""

import os
import platform
import threading
from pathlib import Path
from typing import Any

from sqlalchemy import make_url

from meterhouse.errors import MeterhouseError
from meterhouse.settings import settings
from meterhouse.site import Site
from meterhouse.stores.warehouse import Warehouse
from meterhouse.workers.here import worker_threads
from meterhouse.workers.packing import packed, unpacked
from meterhouse.workers.same import identity, versions


def run(sent: tuple[str, dict[str, str], str, bytes], part: bytes) -> bytes:
    """Do a pass.

    Args:
        sent: a token, the versions and the lake of the process that has sent it, and the packed function.
        part: packed.

    Returns:
        Packed: the result and None, or None and what has been raised.
    """
    token, wanted, lake, function = sent
    try:
        _check_versions(wanted)
        site = own_site()
        _check_lake(site, lake)
        with worker_threads(1) as threads:
            return packed((_function(token, function)(site, threads, unpacked(part)), None))
    except MeterhouseError as error:
        return packed((None, error))


def _check_versions(wanted: dict[str, str]) -> None:
    mine = versions()
    if differ := [f"{name} {mine[name]} and not {wanted[name]}" for name in wanted if mine[name] != wanted[name]]:
        raise MeterhouseError(
            f"a Dask worker has {', '.join(differ)}",
            where=_name(),
            hint="Install the same versions on all workers as where the steps run",
        )


def _check_lake(site: Site, wanted: str) -> None:
    if getattr(_mine, "lake", None) == wanted:
        return
    found = identity(site.lake)
    if found != wanted:
        has = "another lake" if found else "no lake"
        raise MeterhouseError(
            f"a Dask worker finds {has} at {site.lake.url}",
            where=_name(),
            hint="Set METERHOUSE_LAKE_URL for the workers as where the steps run, and share its folder",
        )
    _mine.lake = wanted


_mine = threading.local()
"""Each thread of a worker has a site of its own: an open table of the lake is of one thread."""

_functions: dict[str, Any] = {}
"""The function that the worker has unpacked last, by its token."""

_unpacking = threading.Lock()


def own_site() -> Site:
    """The worker's site. Metadata that derived meters read is in its warehouse, which must not be a new one."""
    if not hasattr(_mine, "site"):
        given = settings()
        warehouse = Warehouse(given.warehouse, given.lease_seconds)
        if warehouse.is_sqlite and not Path(make_url(warehouse.url).database or "").exists():
            raise MeterhouseError(
                f"a Dask worker finds no warehouse at {warehouse.url}",
                where=_name(),
                hint="Set METERHOUSE_WAREHOUSE_URL for the workers as where the steps run; across machines, use "
                "PostgreSQL",
            )
        _mine.site = Site(given, warehouse)
    found: Site = _mine.site
    return found


def _function(token: str, function: bytes) -> Any:
    with _unpacking:
        if token not in _functions:
            _functions.clear()
            _functions[token] = unpacked(function)
        return _functions[token]


def _name() -> str:
    return f"Dask worker on {platform.node()}, process {os.getpid()}"
