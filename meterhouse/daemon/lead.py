"""Takes the lease of the leader, runs a program while it is held, and ends the program before another one can take it.

A leader that cannot renew its lease in time kills its program at the moment at which the lease runs out, whatever the
warehouse does. A leader that was paused does so as soon as it continues.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Final

from meterhouse.daemon import leader
from meterhouse.errors import MeterhouseError
from meterhouse.stores.leases import Lease, take, this_process
from meterhouse.stores.warehouse import Warehouse

LOOKS: Final = 10
"""How often a stand-by looks at the lease while that lasts."""

PAUSE_SECONDS: Final = 5.0
"""After the program has ended by itself, for how long another machine may lead before this one tries again."""

STOP_SECONDS: Final = 30.0
"""How long the program may take to end when it is asked to."""

TICK_SECONDS: Final = 0.05
"""How often a leader looks at its program and at its lease."""

_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)  # it runs on while the machine is suspended


def _elapsed() -> float:
    return time.clock_gettime(_CLOCK)


@dataclass
class _Held:
    """A lease that a thread renews.

    Attributes:
        lease: the lease.
        until: until when it is surely ours, by this machine's clock.
        done: set when the thread is to end.
    """

    lease: Lease
    until: float
    done: threading.Event = field(default_factory=threading.Event)

    @property
    def lost(self) -> bool:
        return _elapsed() >= self.until

    def renew(self) -> None:
        """Renew the lease until it is lost."""
        seconds = self.lease.database.lease_seconds
        while not self.done.wait(seconds / 3) and not self.lost:
            began = _elapsed()
            with suppress(MeterhouseError):  # the warehouse does not answer: it may before the lease runs out
                self.until = began + seconds if self.lease.renew() else 0.0


@contextmanager
def _renewed(lease: Lease, taken_at: float) -> Iterator[_Held]:
    held = _Held(lease, taken_at + lease.database.lease_seconds)
    threading.Thread(target=held.renew, daemon=True, name="leader").start()
    try:
        yield held
    finally:
        held.done.set()
        with suppress(MeterhouseError):  # it runs out
            lease.release()


def lead(
    warehouse: Warehouse, program: Sequence[str], asked_to_end: Callable[[], bool], say: Callable[[str], None]
) -> None:
    """Run a program whenever this process leads, until it is asked to end.

    Args:
        warehouse: keeps the lease; its `lease_seconds` are how long a leader that died is waited for.
        program: path and arguments. It gets the leader's environment (see `leader`).
        asked_to_end: whether to end. The program is then asked to end, and the lease released.
        say: gets a line for the log.

    Raises:
        MeterhouseError: the warehouse has another schema.
    """
    told = ""
    pause = warehouse.lease_seconds / LOOKS
    while not asked_to_end():
        began = _elapsed()
        try:
            taken = take(warehouse, leader.LEASE, this_process())
        except MeterhouseError as error:
            taken = str(error)
        if not isinstance(taken, Lease):
            if taken != told:
                say(f"standing by: {taken}")
            told = taken
            time.sleep(pause)
            continue
        told = ""
        say(f"leading, generation {taken.generation}")
        with _renewed(taken, began) as held:
            why = _run(held, program, asked_to_end)
        if why:
            say(why)
            _wait(PAUSE_SECONDS, asked_to_end)


def _run(held: _Held, program: Sequence[str], asked_to_end: Callable[[], bool]) -> str:
    """Run the program while the lease is held; return why it is no longer running, or nothing if it was asked to end.

    The kernel ends it if this process dies. It must be started by a thread that lives as long as the process.
    """
    command = [sys.executable, "-m", "meterhouse.daemon.bound", str(os.getpid()), *program]
    with subprocess.Popen(command, env=leader.environment(held.lease), start_new_session=True) as child:
        try:
            while child.poll() is None:
                if held.lost:
                    return f"the lease was lost: {program[0]} was killed"
                if asked_to_end():
                    child.send_signal(signal.SIGTERM)
                    _wait(STOP_SECONDS, lambda: child.poll() is not None or held.lost)
                    return ""
                time.sleep(TICK_SECONDS)
            return f"{program[0]} ended by itself, with status {child.returncode}"
        finally:
            child.kill()


def _wait(seconds: float, ended: Callable[[], bool]) -> None:
    end = _elapsed() + seconds
    while _elapsed() < end and not ended():
        time.sleep(TICK_SECONDS)
