"""The site as a Dagster resource."""

from functools import cache

import dagster as dg

from meterhouse import configuration
from meterhouse.configuration import open_checked
from meterhouse.settings import settings
from meterhouse.site import Site

configuration.check(settings())  # a code location with a definition file that cannot work does not load


@cache
def open_site() -> Site:
    """The process's site, opened once."""
    return open_checked()


class SiteResource(dg.ConfigurableResource[Site]):
    """Settings, lake and warehouse, as the `METERHOUSE_*` variables name them."""

    def get(self) -> Site:
        """The site."""
        return open_site()


RETRIES = dg.RetryPolicy(max_retries=3, delay=5)
"""For what passes by itself: a step at work elsewhere, a store away for a moment."""
