"""The site as a Dagster resource."""

from functools import cache

import dagster as dg

from meterhouse import configuration
from meterhouse.configuration import open_checked
from meterhouse.settings import settings
from meterhouse.site import Site

configuration.check(settings())  # the code location does not load if a definition file is invalid


@cache
def open_site() -> Site:
    """The process's site, opened once."""
    return open_checked()


class SiteResource(dg.ConfigurableResource[Site]):
    """Settings, lake and warehouse, as the `METERHOUSE_*` variables name them."""

    def setup_for_execution(self, context: dg.InitResourceContext) -> None:
        """Let the warehouse know the run whose steps this process executes."""
        open_site().warehouse.dagster_run = context.run.run_id if context.run else None

    def get(self) -> Site:
        """The site."""
        return open_site()


RETRIES = dg.RetryPolicy(max_retries=3, delay=5)
"""For temporary failures: a step that is already running, a store that is briefly unavailable."""
