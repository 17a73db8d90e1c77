"""Executes commands of the host, within limits of time and of what they write."""

import os
import selectors
import signal
import subprocess
import time
from contextlib import suppress
from typing import Final

from meterhouse.polling.polled import PollError
from meterhouse.untrusted import printable

MAX_BYTES: Final = 64 << 20
"""Maximum size of what a command writes."""

_CHUNK: Final = 1 << 16


def output(command: str, seconds: float) -> bytes:
    """What a command of the shell writes to its standard output.

    Args:
        command: for `/bin/sh -c`.
        seconds: time limit; then the command is killed, with all that it started.

    Raises:
        PollError: it takes too long, writes too much, or ends with another status than 0.
    """
    ends = time.monotonic() + seconds
    shown = printable(command.split(maxsplit=1)[0] if command.strip() else "")[:80]
    process = subprocess.Popen(
        command,
        shell=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    assert process.stdout is not None
    try:
        whole = bytearray()
        with selectors.DefaultSelector() as selector, process.stdout as out:
            selector.register(out, selectors.EVENT_READ)
            while True:
                left = ends - time.monotonic()
                if left <= 0 or not selector.select(left):
                    raise PollError(f"the command '{shown}' has not ended within {seconds:.3g} s")
                chunk = os.read(out.fileno(), _CHUNK)
                if not chunk:
                    break
                whole += chunk
                if len(whole) > MAX_BYTES:
                    raise PollError(f"the command '{shown}' writes more than {MAX_BYTES >> 20} MiB")
        try:
            status = process.wait(max(0.01, ends - time.monotonic()))
        except subprocess.TimeoutExpired:
            raise PollError(f"the command '{shown}' has not ended within {seconds:.3g} s") from None
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # also what it left running
        process.wait()
    if status != 0:
        raise PollError(f"the command '{shown}' ended with status {status}", hint="Execute it by hand to see why")
    return bytes(whole)
