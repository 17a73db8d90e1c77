"""The places of a member: threads that each poll one task at a time."""

import queue
import threading
from collections.abc import Callable


class Workers:
    """At most `places` threads, started when they are needed. They do not keep the process from ending.

    Args:
        places: number of threads.
    """

    def __init__(self, places: int) -> None:
        self._places = places
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._threads = self._pending = 0

    def start(self, work: Callable[[], None]) -> None:
        """Let a thread do something that raises nothing."""
        with self._lock:
            self._pending += 1
            if self._pending > self._threads and self._threads < self._places:
                self._threads += 1
                threading.Thread(target=self._run, daemon=True, name=f"poll-{self._threads}").start()
        self._work.put(work)

    def close(self) -> None:
        """End the threads that have nothing to do, and the others when they have done it."""
        for _ in range(self._threads):
            self._work.put(None)

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            work()
            del work  # a thread that waits keeps nothing alive
            with self._lock:
                self._pending -= 1
