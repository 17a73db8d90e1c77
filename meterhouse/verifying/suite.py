"""The suite: its checks in order. What was created is deleted, whatever fails."""

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass
from urllib.parse import urlsplit

from meterhouse.demo.receiver import WebhookReceiver
from meterhouse.errors import MeterhouseError
from meterhouse.extras import require
from meterhouse.settings import Settings
from meterhouse.stream.publishing import publisher
from meterhouse.verifying import reaching
from meterhouse.verifying.access import who_asks
from meterhouse.verifying.arriving import Arriving
from meterhouse.verifying.asking import ANSWER_SECONDS, Api
from meterhouse.verifying.findings import Failed, Finding
from meterhouse.verifying.left_out import left_out
from meterhouse.verifying.ringing import Ringing
from meterhouse.verifying.sent import Sent


@dataclass(frozen=True)
class Options:
    """What is verified, and how.

    Attributes:
        api: URL of the API.
        settings: with the stream, the account for Keystone, and the secret of signatures.
        token: of Keystone; None without one.
        seconds: how long to wait for each thing that has to arrive.
        receiver_host: the address or name by which the site reaches this machine; empty for the one by which this
            machine reaches the API.
        receiver_port: the port that the receiver of webhooks listens on; 0 for a free one.
    """

    api: str
    settings: Settings
    token: str | None = None
    seconds: float = 300.0
    receiver_host: str = ""
    receiver_port: int = 0


def verify(options: Options) -> Iterator[Finding]:
    """The findings of all checks, each as soon as it is made.

    Raises:
        MeterhouseError: a package is not installed.
    """
    require("httpx")
    import httpx

    with ExitStack() as stack:
        client = stack.enter_context(httpx.Client(base_url=options.api, timeout=ANSWER_SECONDS, follow_redirects=True))
        api = Api(client, options.seconds)
        run = _Run()
        yield run.check("api", lambda: reaching.reachable(api))
        yield run.check("readiness", lambda: reaching.ready(api), "api")
        yield run.check("versions", lambda: reaching.same_version(api), "api")
        yield run.check("clocks", lambda: reaching.same_clock(api), "api")
        parts: list[tuple[Arriving, Ringing]] = []

        def access() -> str:
            who = who_asks(api, options.settings, options.token)
            sender = stack.enter_context(closing(publisher(options.settings)))
            sent = Sent(sender, who, options.settings.telemetry_secret)
            host = options.receiver_host or _own_address(options.api)
            receiver = WebhookReceiver(host=host, port=options.receiver_port)
            try:
                stack.enter_context(receiver)
            except OSError as error:
                raise Failed(f"the receiver cannot listen: {error.strerror}", "Check --receiver-port") from None
            parts.append((Arriving(api, sent, options.settings), Ringing(api, sent, receiver)))
            return f"{who.how}, for the project {who.project_id}"

        yield run.check("access", access, "api")
        if not parts:
            yield from (run.skipped(name, "access") for name in _LATER)
            return
        arriving, ringing = parts[0]
        try:
            yield from _after_access(run, api, arriving, ringing)
        finally:
            if ringing.is_left:  # the run was interrupted
                ringing.deleted()


def _own_address(url: str) -> str:
    """The address of this machine that it reaches a URL by."""
    parts = urlsplit(url)
    for family, kind, _, _, where in socket.getaddrinfo(parts.hostname, parts.port or 80, type=socket.SOCK_DGRAM):
        with suppress(OSError), socket.socket(family, kind) as probe:
            probe.connect(where)  # sends nothing
            return str(probe.getsockname()[0])
    return "127.0.0.1"


_LATER = (
    *("stream", "samples", "notification", "event", "statistic", "quality", "resource"),
    *("alarm created", "alarm fires", "alarm recovers", "left out", "lag", "alarm deleted"),
)


def _after_access(run: "_Run", api: Api, arriving: Arriving, ringing: Ringing) -> Iterator[Finding]:
    def send() -> str:
        arriving.sent.send()
        return f"a notification and {len(arriving.sent.points)} polled samples are in the stream"

    yield run.check("stream", send, "access")
    yield run.check("samples", arriving.samples, "stream")
    yield run.check("notification", arriving.notified, "samples")
    yield run.check("event", arriving.event, "samples")
    yield run.check("statistic", arriving.statistic, "samples")
    yield run.check("quality", arriving.quality, "samples")
    yield run.check("resource", arriving.resource, "samples")
    yield run.check("alarm created", ringing.created, "samples")
    yield run.check("alarm fires", ringing.fires, "alarm created")
    yield run.check("alarm recovers", ringing.recovers, "alarm fires")
    yield run.check("left out", lambda: left_out(api, arriving.sent), "samples")
    yield run.check("lag", arriving.lag, "samples")
    yield run.check("alarm deleted", ringing.deleted, "alarm created")


class _Run:
    """Makes checks, and remembers which have failed."""

    def __init__(self) -> None:
        self._bad: set[str] = set()

    def check(self, name: str, make: Callable[[], str], needs: str = "") -> Finding:
        """The finding of a check, which returns what it has found."""
        if needs in self._bad:
            return self.skipped(name, needs)
        started = time.monotonic()
        try:
            found = make()
        except (Failed, MeterhouseError) as error:
            what = error.found if isinstance(error, Failed) else str(error)
            to_do = error.to_do if isinstance(error, Failed) else ""
            self._bad.add(name)
            return Finding(name, "failed", what, to_do, time.monotonic() - started)
        return Finding(name, "ok", found, seconds=time.monotonic() - started)

    def skipped(self, name: str, needs: str) -> Finding:
        """The finding of a check that cannot be made."""
        self._bad.add(name)
        return Finding(name, "skipped", f"not checked, because of the check {needs}")
