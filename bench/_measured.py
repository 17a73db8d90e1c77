"""What a call costs, each in a fresh process, so that its peak of memory is its own."""

import multiprocessing
import resource
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from meterhouse.pandas_free import keep_pandas_out


@dataclass
class Clock:
    """Seconds by the clock and of the processors, of all threads, spent inside `with clock:`."""

    wall: float = 0.0
    cpu: float = 0.0
    _began: tuple[float, float] = field(default=(0.0, 0.0), repr=False)

    def __enter__(self) -> "Clock":
        self._began = (time.perf_counter(), time.process_time())
        return self

    def __exit__(self, *error: object) -> None:
        self.wall += time.perf_counter() - self._began[0]
        self.cpu += time.process_time() - self._began[1]


@dataclass(frozen=True)
class Cost:
    """What one call took. `peak_mb` is of its whole process, with all that it imports: megabytes of 10^6 bytes."""

    wall: float
    cpu: float
    peak_mb: float
    answer: Any


fresh = True
"""Whether calls are made in fresh processes. In this one they are quicker, and peaks of memory are those of all."""


def measured(function: Callable[..., Any], *given: Any) -> Cost:
    """Call `function(clock, *given)` in a fresh process; it spends what counts inside `with clock:`.

    Raises:
        RuntimeError: the process ended without an answer; what it said is on stderr.
    """
    if not fresh:
        clock = Clock()
        answer = function(clock, *given)
        return Cost(clock.wall, clock.cpu, _peak_mb(), answer)
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=_run, args=(sender, function, given))
    process.start()
    sender.close()
    try:
        cost = receiver.recv()
    except EOFError:
        process.join()
        raise RuntimeError(f"{function.__name__} ended with exit code {process.exitcode}") from None
    process.join()
    return Cost(*cost)


def _run(sender: Any, function: Callable[..., Any], given: tuple[Any, ...]) -> None:
    keep_pandas_out()  # as commands do
    clock = Clock()
    answer = function(clock, *given)
    sender.send((clock.wall, clock.cpu, _peak_mb(), answer))


def _peak_mb() -> float:
    """The peak of resident memory; where Linux tells it, without what the parent had when it started this process."""
    status = Path("/proc/self/status")
    if status.exists():
        (line,) = (line for line in status.read_text("utf-8").splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) * 1024 / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6


def best(costs: list[Cost]) -> Cost:
    """The least seconds of several runs, by the clock and of the processors apart, and the highest peak.

    The answer is that of the run with the least CPU seconds.
    """
    return Cost(
        min(cost.wall for cost in costs),
        min(cost.cpu for cost in costs),
        max(cost.peak_mb for cost in costs),
        min(costs, key=lambda cost: cost.cpu).answer,
    )


def together(*costs: Cost) -> Cost:
    """The cost of calls one after another."""
    return Cost(
        sum(cost.wall for cost in costs),
        sum(cost.cpu for cost in costs),
        max(cost.peak_mb for cost in costs),
        costs[-1].answer,
    )


def copied(home: Path, target: Path) -> Path:
    """A site's folder again, whose data files are the same ones, by links: a step replaces files and changes none."""
    shutil.rmtree(target, ignore_errors=True)

    def link(source: str, to: str) -> str:
        if source.endswith(".parquet"):
            Path(to).hardlink_to(source)
        else:
            shutil.copy2(source, to)
        return to

    shutil.copytree(home, target, copy_function=link)
    return target
