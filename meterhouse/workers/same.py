"""What must be the same on all workers of a cluster, so that they give the same bits."""

import platform
from functools import cache
from importlib import metadata

from meterhouse import __version__
from meterhouse.stores.lake import Lake

PACKAGES = ("numpy", "pyarrow", "deltalake")
"""Further packages that must be of the same version on each worker."""

_TABLE = "samples"
"""The table by whose id workers know that their lake is the same one."""


@cache
def versions() -> dict[str, str]:
    """What must be the same on all workers, so that they give the same bits: package → version."""
    python = ".".join(platform.python_version_tuple()[:2])
    return {"Meterhouse": __version__, "Python": python, **{name: metadata.version(name) for name in PACKAGES}}


def identity(lake: Lake) -> str:
    """The id that Delta gave the lake's table `samples` when it was created; empty if the lake is not there.

    Raises:
        Unavailable: the object store cannot be reached.
    """
    from deltalake import DeltaTable
    from deltalake.exceptions import DeltaError, TableNotFoundError

    try:
        return str(DeltaTable(lake.uri(_TABLE), storage_options=lake.storage_options).metadata().id)
    except TableNotFoundError:
        return ""
    except (OSError, DeltaError) as error:
        raise lake.unreachable(_TABLE, error) from error
