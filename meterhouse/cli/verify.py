"""The command `verify`."""

from typing import Any
from urllib.parse import urlsplit

import click

from meterhouse.cli.options import Seconds, as_json
from meterhouse.cli.output import dumps, line
from meterhouse.untrusted import printable


def _url(ctx: click.Context, param: click.Parameter, given: str | None) -> str | None:
    if given is None:
        return None
    try:
        parts = urlsplit(given)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        usable = False
    if not usable:
        raise click.BadParameter(f"{given!r} is not a URL such as http://127.0.0.1:8777")
    return given.rstrip("/")


@click.command()
@click.option("--api", metavar="URL", callback=_url, help="The API; default that of METERHOUSE_API_HOST and _PORT.")
@click.option("--stream", metavar="URL", help="The stream to send into; default METERHOUSE_STREAM_URL.")
@click.option("--token", envvar="OS_TOKEN", help="A token of Keystone; default OS_TOKEN, or METERHOUSE_KEYSTONE_*.")
@click.option(
    "--receiver-host",
    default="",
    metavar="HOST",
    help="Address or name by which the site reaches this machine; default the one by which it reaches the API.",
)
@click.option(
    "--receiver-port",
    type=click.IntRange(0, 65535),
    default=0,
    help="Port that the receiver of webhooks listens on; default any free one.",
)
@click.option(
    "--timeout",
    "seconds",
    type=Seconds(),
    default=300.0,
    show_default=True,
    help="How many seconds to wait for each thing that has to arrive.",
)
@as_json
def verify(
    api: str | None,
    stream: str | None,
    token: str | None,
    receiver_host: str,
    receiver_port: int,
    seconds: float,
    as_json: bool,
) -> None:
    """Verify a site that is in use: send marked data into its stream, and wait for it in its API.

    One line a check. The exit status is 1 if one has failed. What is sent carries the source `meterhouse-verify`, which
    bills, reports and lists leave out. The alarm is deleted.
    """
    from meterhouse.settings import read_settings
    from meterhouse.verifying.suite import Options, verify

    given: dict[str, Any] = {} if stream is None else {"stream_url": stream}
    settings = read_settings(**given)
    scheme = "https" if settings.api_cert_file else "http"
    url = api or f"{scheme}://{settings.api_host}:{settings.api_port}{settings.api_prefix}"
    options = Options(url, settings, token or None, seconds, receiver_host, receiver_port)
    bad = 0
    for each in verify(options):
        bad += each.state != "ok"
        if as_json:
            row = {"check": each.check, "state": each.state, "found": each.found, "to_do": each.to_do}
            line(dumps({**row, "seconds": round(each.seconds, 3)}))
        else:
            line(printable(f"{each.state:<8}{each.check:<16}{each}"))
    if bad:
        raise SystemExit(1)
