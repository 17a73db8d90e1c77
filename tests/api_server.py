"""A site's API on a real socket, for tests: uvicorn in a thread, and httpx to ask it."""

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import uvicorn

from meterhouse.api.server import server
from meterhouse.site import Site


@contextmanager
def served(
    site: Site, prepare: Callable[[Any], None] = lambda app: None, made: uvicorn.Server | None = None
) -> Iterator[str]:
    """Serve a site's API on a free port of loopback while the block runs; give its URL.

    Args:
        site: the site.
        prepare: what to do with the application before it is served.
        made: its server, if a test needs it itself.
    """
    made = made or server(site, "127.0.0.1", 0)
    prepare(made.config.app)
    thread = threading.Thread(target=made.run, daemon=True)
    thread.start()
    try:
        while not made.started:
            assert thread.is_alive(), "the API did not start"
            time.sleep(0.005)
        port = made.servers[0].sockets[0].getsockname()[1]
        yield f"http{'s' if made.config.ssl else ''}://127.0.0.1:{port}"
    finally:
        made.should_exit = True
        thread.join(30)


@contextmanager
def client(site: Site, made: uvicorn.Server | None = None, **headers: str) -> Iterator[httpx.Client]:
    """A client of a site's API, or of a server of it; the keywords are headers, such as `x_project_id`."""
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    with served(site, made=made) as url, httpx.Client(base_url=url, headers=given, timeout=60) as made:
        yield made
