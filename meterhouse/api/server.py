"""The server: uvicorn on one socket."""

import socket
from ipaddress import ip_address

import uvicorn

from meterhouse.api.app import create_app
from meterhouse.errors import SettingsError
from meterhouse.settings import Settings, variable
from meterhouse.site import Site


def server(site: Site, host: str, port: int) -> uvicorn.Server:
    """The server of a site's API, which `run()` starts.

    Args:
        site: the site.
        host: the address to listen on.
        port: the port to listen on.

    Raises:
        SettingsError: other machines could reach an API that knows nobody.
        MeterhouseError: a file that the settings name cannot be used.
    """
    _refuse_exposure(site.settings, host)
    return uvicorn.Server(
        uvicorn.Config(create_app(site), host=host, port=port, log_level="warning", access_log=False, lifespan="on")
    )


def _refuse_exposure(settings: Settings, host: str) -> None:
    if settings.api_auth == "none" and not settings.api_insecure and not _is_loopback(host):
        raise SettingsError(
            f"{host} is an address that other machines reach, and without authentication whoever reaches the API may "
            "do everything",
            hint=f"Set {variable('api_auth')}=keystone, listen on 127.0.0.1, or, if only those whom you trust reach "
            f"the address, set {variable('api_insecure')}=true",
        )


def _is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address; of a name, all of its addresses count."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        pass
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return False
    return all(ip_address(str(where[0]).partition("%")[0]).is_loopback for *_, where in found)
