"""The site as a Dagster resource."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import dagster as dg

from meterhouse import configuration
from meterhouse.configuration import open_checked
from meterhouse.settings import settings
from meterhouse.site import Site
from meterhouse.stores.heartbeats import beat
from meterhouse.stores.warehouse import Warehouse

configuration.check(settings())  # the code location does not load if a definition file is invalid


@cache
def open_site() -> Site:
    """The process's site, opened once."""
    return open_checked()


class SiteResource(dg.ConfigurableResource[Site]):
    """Settings, lake and warehouse, as the `METERHOUSE_*` variables name them.

    While a run has it, the run holds a lease in the warehouse: Dagster itself does not notice that the process of a run
    has died.
    """

    @contextmanager
    def yield_for_execution(self, context: dg.InitResourceContext) -> Iterator[Any]:
        """This resource, to a run or to a sensor's tick, which is no run."""
        if context.run is None:
            yield self
            return
        values = settings()
        with beat(Warehouse(values.warehouse, values.lease_seconds), context.run.run_id):
            yield self

    def get(self) -> Site:
        """The site."""
        return open_site()


RETRIES = dg.RetryPolicy(max_retries=3, delay=5)
"""For temporary failures: a step that is already running, a store that is briefly unavailable."""
