"""The site as a Dagster resource."""

from functools import cache

import dagster as dg

from meterhouse.site import Site


@cache
def open_site() -> Site:
    """The process's site, opened once."""
    return Site.open()


class SiteResource(dg.ConfigurableResource[Site]):
    """Settings, lake and warehouse, as the `METERHOUSE_*` variables name them."""

    def get(self) -> Site:
        """The site."""
        return open_site()
