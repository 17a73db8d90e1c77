"""TLS of webhooks: who is trusted, and with which certificate Meterhouse shows itself.

A URL can say for itself whether its receiver's certificate is verified: `aodh-alarm-ssl-verify=0|1` in its query, or
`ceilometer-alarm-ssl-verify`, as in Aodh and Ceilometer; the last one counts. An alarm from the outside can do so too:
it concerns its own notifications only. It does not hold for `trust+https`, because a token would go to whoever answers.
"""

import os
import ssl
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Final
from urllib.parse import parse_qsl, urlsplit

from meterhouse.errors import MeterhouseError
from meterhouse.settings import Settings, variable

_OVERRIDES: Final = ("aodh-alarm-ssl-verify", "ceilometer-alarm-ssl-verify")
_NO: Final = frozenset({"0", "false", "no", "off"})


def context(settings: Settings, url: str, *, origin: str, trusted: bool) -> ssl.SSLContext:
    """How to speak TLS with a receiver.

    Args:
        settings: the site's.
        url: the receiver, with its query.
        origin: `file` for an alarm of `alarms.yaml`, else `outside`; only the former shows the client certificate.
        trusted: whether the call carries a token.

    Raises:
        MeterhouseError: the certificates of the settings cannot be read.
    """
    shown = settings.webhook_cert_file if origin == "file" else None
    key = settings.webhook_key_file if origin == "file" else None
    environment = os.environ.get("SSL_CERT_FILE") or ""
    return _context(settings.webhook_ca_file, shown, key, verified(settings, url, trusted=trusted), environment)


def verified(settings: Settings, url: str, *, trusted: bool) -> bool:
    """Whether the receiver's certificate is verified."""
    if not trusted:
        for name, value in reversed(parse_qsl(urlsplit(url).query, keep_blank_values=True)):
            if name in _OVERRIDES:
                return value.strip().lower() not in _NO
    return settings.webhook_tls_verify


@lru_cache(maxsize=16)
def _context(
    authorities: Path | None, certificate: Path | None, key: Path | None, verify: bool, environment: str
) -> ssl.SSLContext:
    made = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=_authorities(authorities, environment))
    if not verify:
        made.check_hostname = False
        made.verify_mode = ssl.CERT_NONE
    made.set_alpn_protocols(["http/1.1"])
    if certificate is not None:
        try:
            made.load_cert_chain(certificate, key)
        except OSError as error:
            raise MeterhouseError(f"no certificate can be read: {error}", where=variable("webhook_cert_file")) from None
    return made


def _authorities(given: Path | None, environment: str) -> str | None:
    """The file of certificates; None for those that OpenSSL finds."""
    if given is not None:
        try:
            ssl.create_default_context(cafile=str(given))
        except OSError as error:
            raise MeterhouseError(f"no certificates can be read: {error}", where=variable("webhook_ca_file")) from None
        return str(given)
    if environment:
        return environment if Path(environment).is_file() else None
    if find_spec("certifi") is not None:
        import certifi

        return certifi.where()
    return None
