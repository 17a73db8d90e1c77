"""Threads that do work of about the same cost, with a bounded queue in which the projects take turns."""

import threading
from collections import OrderedDict, deque
from collections.abc import Callable

from meterhouse.api.serving.job import Job


class Full(Exception):
    """The queue is full."""


class Lane:
    """Threads that do work of about the same cost.

    Args:
        name: of the threads.
        threads: how many jobs are done at the same time.
        each: how many of one owner.
        waiting: how many jobs may wait.
        most: how many rows a job may read here; None for any number.
        onward: where a job goes that would read more.
        spare: how many more threads there may be in place of those whose jobs take long; see `replace`.
    """

    def __init__(
        self,
        name: str,
        *,
        threads: int,
        each: int,
        waiting: int,
        most: int | None = None,
        onward: Callable[[Job], None] | None = None,
        spare: int = 0,
    ) -> None:
        self.name, self._each, self._waiting = name, each, waiting
        self._most, self._onward = most, onward
        self.threads, self._spare = threads, spare
        self._changed = threading.Condition()
        self._queues: OrderedDict[str, deque[Job]] = OrderedDict()
        self._queued = self._alive = self._idle = 0
        self._running: set[Job] = set()
        self._long: set[Job] = set()
        self._closed = False

    def submit(self, job: Job) -> None:
        """Let a job be done.

        Raises:
            Full: too many jobs wait already.
        """
        with self._changed:
            if self._queued >= self._waiting or self._closed:
                raise Full
            self._queues.setdefault(job.owner, deque()).append(job)
            self._queued += 1
            self._start_threads()
            self._changed.notify()

    def forget(self, job: Job) -> None:
        """Take a job out of the queue, if it has not begun."""
        with self._changed:
            queue = self._queues.get(job.owner, deque())
            if job in queue:
                self._taken_out(job.owner, queue, job)

    def replace(self, job: Job) -> None:
        """Let another thread do the other jobs, because this one takes long; as long as there are spare ones."""
        with self._changed:
            if job in self._running and len(self._long) < self._spare:
                self._long.add(job)
                self._start_threads()
                self._changed.notify()

    def does(self, job: Job) -> bool:
        """Whether a job is being done here."""
        with self._changed:
            return job in self._running

    def close(self) -> None:
        """Take no more jobs. Threads end with those that they do."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    @property
    def busy(self) -> int:
        """How many jobs are being done."""
        with self._changed:
            return len(self._running)

    @property
    def queued(self) -> int:
        """How many jobs wait."""
        with self._changed:
            return self._queued

    def _start_threads(self) -> None:
        if self._idle < self._queued and self._alive < self.threads + len(self._long):
            self._alive += 1
            threading.Thread(target=self._work, name=f"api {self.name}", daemon=True).start()

    def _work(self) -> None:
        while (job := self._next()) is not None:
            ended = True
            try:
                ended = job.do(self._most)
            finally:
                self._ended(job)
            if not ended:
                self._pass_on(job)

    def _pass_on(self, job: Job) -> None:
        assert self._onward is not None  # a lane without a bound ends every job
        try:
            self._onward(job)
        except Full as error:
            job.end(error=error)

    def _ended(self, job: Job) -> None:
        with self._changed:
            self._running.discard(job)
            self._long.discard(job)
            self._changed.notify()

    def _next(self) -> Job | None:
        """The next job, of the owner that has waited longest for a turn; None if this thread is one too many."""
        with self._changed:
            while True:
                if self._closed or self._alive > self.threads + len(self._long):
                    self._alive -= 1
                    self._changed.notify()
                    return None
                for owner, queue in self._queues.items():
                    if sum(each.owner == owner for each in self._running - self._long) < self._each:
                        job = queue[0]
                        self._taken_out(owner, queue, job)
                        self._running.add(job)
                        return job
                self._idle += 1
                self._changed.wait()
                self._idle -= 1

    def _taken_out(self, owner: str, queue: "deque[Job]", job: Job) -> None:
        queue.remove(job)
        self._queued -= 1
        if queue:
            self._queues.move_to_end(owner)
        else:
            del self._queues[owner]
