"""Asks libvirt of all domains of this host at once, for all pollsters that want to know at about the same time."""

import atexit
import os
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotInTime
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from meterhouse.extras import require
from meterhouse.polling.kinds.libvirt.domains import Domain, read
from meterhouse.polling.polled import PollError

FRESH_SECONDS: Final = 2.0
"""For how long what libvirt told serves further pollsters: those of one interval ask at about the same time."""

MAX_WARNINGS: Final = 5


@dataclass(frozen=True)
class Told:
    """What libvirt told of the domains that Nova made.

    Attributes:
        received: when it answered.
        domains: of Nova's.
        others: number of domains that Nova did not make.
        warnings: about domains that could not be read.
    """

    received: datetime
    domains: list[Domain]
    others: int
    warnings: list[str]


class Hypervisor:
    """A libvirt, with a connection that is kept. It is used by several threads at the same time.

    Args:
        uri: of libvirt; empty: LIBVIRT_DEFAULT_URI, else `qemu:///system`.
    """

    def __init__(self, uri: str = "") -> None:
        self.uri = uri or os.environ.get("LIBVIRT_DEFAULT_URI") or "qemu:///system"
        self._lock = threading.Lock()
        self._asked: Future[Told] | None = None
        self._asked_at = 0.0
        self._connection: Any = None
        atexit.register(self._disconnect)

    def told(self, host: str, seconds: float, present: Callable[[], datetime]) -> Told:
        """What libvirt tells now, or told up to `FRESH_SECONDS` ago.

        Args:
            host: this host's name; empty: as libvirt has it.
            seconds: how long to wait at most.
            present: the time, by the clock that samples have.

        Raises:
            PollError: it cannot be asked, or does not answer in time.
        """
        require("libvirt")
        with self._lock:
            asked = self._asked
            if asked is None or (asked.done() and not self._fresh(asked)):
                asked = self._asked = Future()
                self._asked_at = time.monotonic()
                # A libvirt that hangs holds this thread, and no other: whoever asks waits for the limit of time.
                threading.Thread(target=self._ask, args=(asked, host, present), name="libvirt", daemon=True).start()
        try:
            return asked.result(seconds)
        except NotInTime:
            waited = time.monotonic() - self._asked_at
            raise PollError(f"libvirt has not answered for {waited:.3g} s", where=self.uri) from None

    def _disconnect(self) -> None:
        """Close the connection while Python can: libvirt's own clean-up complains when the interpreter is half gone."""
        self._connection = None

    def _fresh(self, asked: Future[Told]) -> bool:
        return asked.exception() is None and time.monotonic() - self._asked_at < FRESH_SECONDS

    def _ask(self, asked: Future[Told], host: str, present: Callable[[], datetime]) -> None:
        import libvirt

        try:
            asked.set_result(self._read(host, present))
        except libvirt.libvirtError as error:
            self._connection = None
            asked.set_exception(PollError(f"libvirt: {error}", where=self.uri, hint="Look whether libvirtd runs"))
        except Exception as error:  # for whoever waits: nobody joins this thread
            asked.set_exception(error)

    def _read(self, host: str, present: Callable[[], datetime]) -> Told:
        import libvirt

        if self._connection is None or not self._connection.isAlive():
            libvirt.registerErrorHandler(lambda *_: None, None)  # which writes to standard error
            self._connection = libvirt.openReadOnly(self.uri)
        host = host or self._connection.getHostname()
        stats: Mapping[str, Mapping[str, Any]] = {}
        with suppress(libvirt.libvirtError):
            stats = {domain.UUIDString(): of_one for domain, of_one in self._connection.getAllDomainStats(0, 0)}
        domains: list[Domain] = []
        warnings: list[str] = []
        others = 0
        for domain in self._connection.listAllDomains(0):
            try:
                found = read(domain, stats.get(domain.UUIDString(), {}), host, _attempt)
            except libvirt.libvirtError as error:
                if error.get_error_code() != libvirt.VIR_ERR_NO_DOMAIN:  # gone meanwhile
                    warnings.append(f"domain {domain.name()}: {error}")
            except ValueError as error:
                warnings.append(f"domain {domain.name()}: {error}")
            else:
                others += found is None
                domains += [found] if found else []
        if len(warnings) > MAX_WARNINGS:
            warnings[MAX_WARNINGS:] = [f"and {len(warnings) - MAX_WARNINGS:,} more domains"]
        return Told(present(), domains, others, warnings)


def _attempt(call: Callable[..., Any], *arguments: Any) -> Any:
    """What a function of libvirt's returns; None if it fails: the driver lacks it, or the device is gone."""
    import libvirt

    try:
        return call(*arguments)
    except libvirt.libvirtError:
        return None
