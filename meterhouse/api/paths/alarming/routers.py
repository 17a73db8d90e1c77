"""The routers of Aodh's paths."""

from typing import Final

from meterhouse.api.paths.alarming import alarms, history, metrics, queries, quotas, state

ROUTERS: Final = (alarms.router, state.router, history.router, quotas.router, queries.router, metrics.router)
