"""The server: uvicorn on one socket."""

import uvicorn

from meterhouse.api.app import create_app
from meterhouse.site import Site


def server(site: Site, host: str, port: int) -> uvicorn.Server:
    """The server of a site's API, which `run()` starts.

    Args:
        site: the site.
        host: the address to listen on.
        port: the port to listen on.
    """
    return uvicorn.Server(
        uvicorn.Config(create_app(site), host=host, port=port, log_level="warning", access_log=False, lifespan="on")
    )
