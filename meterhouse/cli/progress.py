"""A progress bar on the terminal for what takes longer than two seconds."""

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

from meterhouse.progress import Progress

if TYPE_CHECKING:
    from rich.progress import Progress as Bar

PATIENCE_SECONDS = 2.0
"""How long nothing is shown, and rich is not imported."""


@contextmanager
def progress(label: str, *, shown: bool = True) -> Iterator[Progress]:
    """Show on a terminal, from the third second on, that the block is running; nothing in a pipe.

    The block gets a function to call with (done, total). Until it does, there are a spinner and the seconds.
    """
    if not shown or not sys.stderr.isatty():
        yield lambda done, total: None
        return
    bar = _LateBar(label)
    bar.start()
    try:
        yield bar.update
    finally:
        bar.stop()


class _LateBar(threading.Thread):
    """Waits, and then shows a bar until it is stopped. The block may be in a call that does not return for minutes."""

    def __init__(self, label: str) -> None:
        super().__init__(daemon=True, name="progress")
        self._label = label
        self._began = time.monotonic()
        self._figures: tuple[int, int | None] = (0, None)
        self._stopped = threading.Event()

    def update(self, done: int, total: int) -> None:
        """Take the figures that the bar shows from now on."""
        self._figures = (done, total)

    def stop(self) -> None:
        """Take the bar away, if there is one."""
        self._stopped.set()
        self.join()

    def run(self) -> None:
        """Show the bar, drawn ten times a second."""
        if self._stopped.wait(PATIENCE_SECONDS):
            return
        with _bar() as bar:
            task = bar.add_task(self._label, total=None, counted="")
            bar.tasks[0].start_time = self._began
            while not self._stopped.wait(0.1):
                done, total = self._figures
                seconds = time.monotonic() - self._began
                counted = "" if total is None else f"{done:,}/{total:,}{_pace(done, total, seconds)}"
                bar.update(task, completed=done, total=total, counted=counted)
                bar.refresh()


def _pace(done: int, total: int, seconds: float) -> str:
    """The rate so far and, by it, the time that is left; empty text until something is done."""
    if done <= 0 or seconds <= 0:
        return ""
    rate, unit = done / seconds, "s"
    if rate < 1:
        rate, unit = rate * 60, "min"
    left = timedelta(seconds=round(max(total - done, 0) * seconds / done))
    return f", {rate:,.0f}/{unit}, {left} left" if rate >= 10 else f", {rate:.1f}/{unit}, {left} left"


def _bar() -> "Bar":
    from rich.console import Console
    from rich.progress import BarColumn, SpinnerColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    return Bar(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[counted]}"),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
        auto_refresh=False,
        redirect_stdout=False,  # what is printed is data, and may go into a pipe
    )
