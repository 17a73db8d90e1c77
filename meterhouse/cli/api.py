"""The command `api`."""

import click


@click.command()
@click.option("--host", help="Address to listen on; default METERHOUSE_API_HOST.")
@click.option("--port", type=click.IntRange(0, 65535), help="Port to listen on; default METERHOUSE_API_PORT.")
def api(host: str | None, port: int | None) -> None:
    """Serve the HTTP API, until it is stopped."""
    from meterhouse.errors import MeterhouseError
    from meterhouse.extras import require

    require("fastapi")
    require("uvicorn")
    from meterhouse.api.server import server
    from meterhouse.site import Site

    site = Site.open()
    settings = site.settings
    host, port = host or settings.api_host, settings.api_port if port is None else port
    try:
        server(site, host, port).run()
    except SystemExit:
        raise MeterhouseError(
            f"the API does not start on {host} and port {port}", hint="The line above says why"
        ) from None
