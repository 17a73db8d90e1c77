"""Where the passes of a computation run: in this process, or on the workers of a Dask cluster.

A pass is a call of a function with a site, threads and a part of the data. Function, part and result can be pickled. It
reads the lake and may write files that nobody sees before a commit, but commits nothing: that is done here, by the
process that holds the leases.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from meterhouse.workers.here import Here, PassFunction, Workers, worker_threads

if TYPE_CHECKING:
    from meterhouse.site import Site

__all__ = ["PassFunction", "Workers", "opened", "worker_threads"]


@contextmanager
def opened(site: "Site") -> Iterator[Workers]:
    """The workers that the settings name, for a while.

    Raises:
        NotInstalled: METERHOUSE_COMPUTE names a Dask cluster, and Dask is not installed.
    """
    here = Here(site)
    if site.settings.compute == "local":
        yield here
        return
    from meterhouse.workers.cluster import Cluster

    with Cluster(here, site.settings.compute) as cluster:
        yield cluster
