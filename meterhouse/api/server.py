"""The server: uvicorn on one socket."""

import socket
import ssl
from ipaddress import ip_address
from typing import Final

import uvicorn

from meterhouse.api.app import create_app
from meterhouse.api.entry.connection import KEEP_ALIVE_SECONDS, Connection
from meterhouse.errors import SettingsError
from meterhouse.settings import Settings, variable
from meterhouse.site import Site

STOP_SECONDS: Final = 10
"""How long running answers may take after the server was told to stop."""


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
    context = _tls(site.settings)
    return uvicorn.Server(
        uvicorn.Config(
            create_app(site),
            host=host,
            port=port,
            http=Connection,
            ws="none",
            log_config=None,
            access_log=False,
            lifespan="on",
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=STOP_SECONDS,
            log_level="error",
            ssl_context_factory=None if context is None else lambda *_: context,
        )
    )


def _tls(settings: Settings) -> ssl.SSLContext | None:
    """TLS 1.2 or later by the certificate of the settings; None if there is none."""
    if settings.api_cert_file is None or settings.api_key_file is None:
        return None
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        # Without the function, OpenSSL asks the terminal.
        context.load_cert_chain(settings.api_cert_file, settings.api_key_file, password=lambda: "")
    except (OSError, ValueError) as error:
        raise SettingsError(
            f"certificate and key cannot be used: {error}",
            where=f"{variable('api_cert_file')}, {variable('api_key_file')}",
            hint="Give both as PEM, the key without a password",
        ) from None
    return context


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
