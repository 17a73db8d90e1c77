"""The signals that end this program: they raise an exception, so that the servers are stopped first."""

from __future__ import annotations

import signal
from types import FrameType
from typing import NoReturn

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Signalled(SystemExit):
    """A signal asks this program to end. The exit code is 128 plus its number, as in a shell."""

    def __init__(self, number: int) -> None:
        super().__init__(128 + number)
        self.number = number


def raise_on_signals() -> None:
    """Raise `Signalled` when one of these signals arrives."""

    def handle(number: int, frame: FrameType | None) -> NoReturn:
        raise Signalled(number)

    for number in SIGNALS:
        signal.signal(number, handle)


def ignore_signals() -> None:
    """Ignore these signals from now on."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
