"""The lanes of a server: what is answered quickly does not wait for what reads much."""

import os
from typing import Final

from meterhouse.api.serving.job import Job
from meterhouse.api.serving.lane import Lane

FEW: Final = 300_000
"""How many rows a question reads at most that is answered among the quick ones: in some 50 ms."""

MANY: Final = 3_000_000
"""How many rows a question reads at most that is answered among the middle ones: in a second."""

QUICK_THREADS: Final = 8
SPARE_THREADS: Final = 16
WAITING: Final = 512
"""How many quick questions may wait. Of those that read more, a quarter, and of those that read most, an eighth."""


class Lanes:
    """Where the work of a server is done.

    All begins among the quick ones. What turns out to read more begins again in a lane of its own, in which as many are
    done together as there are processors: this bounds the memory too.
    """

    def __init__(self) -> None:
        processors = max(os.cpu_count() or 1, 2)
        self._large = Lane("large", threads=processors, each=1, waiting=WAITING // 8)
        self._middle = Lane(
            "middle",
            threads=processors,
            each=processors,
            waiting=WAITING // 4,
            most=MANY,
            onward=self._large.submit,
        )
        self._quick = Lane(
            "quick",
            threads=QUICK_THREADS,
            each=QUICK_THREADS * 3 // 4,
            waiting=WAITING,
            most=FEW,
            onward=self._middle.submit,
            spare=SPARE_THREADS,
        )

    @property
    def all(self) -> tuple[Lane, ...]:
        """The lanes, the quick one first."""
        return self._quick, self._middle, self._large

    def submit(self, job: Job) -> None:
        """Let a job be done.

        Raises:
            Full: too many jobs wait already.
        """
        self._quick.submit(job)

    def takes_long(self, job: Job) -> None:
        """Let others not wait for a job that is not done after a while."""
        self._quick.replace(job)

    def give_up(self, job: Job) -> bool:
        """Cancel a job for which nobody waits; return whether it has ended. Until then, call it again."""
        job.cancellation.cancel()
        for lane in self.all:
            lane.forget(job)
        return not any(lane.does(job) for lane in self.all)

    def close(self) -> None:
        """Take no more jobs."""
        for lane in self.all:
            lane.close()
