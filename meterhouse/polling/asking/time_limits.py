"""Ends requests that take too long, however slowly their answers drip: a thread shuts their connections."""

import heapq
import itertools
import socket
import threading
import time
from contextlib import suppress


class Watch:
    """A request that is watched.

    Attributes:
        ends: when its time is over, on the monotonic clock.
        over: whether its connection was shut.
    """

    __slots__ = ("_lock", "_socket", "ends", "over")

    def __init__(self, ends: float) -> None:
        self.ends = ends
        self.over = False
        self._socket: socket.socket | None = None
        self._lock = threading.Lock()

    def connected(self, by: socket.socket | None) -> None:
        """Tell by which connection the answer comes; None: it is there."""
        with self._lock:
            self._socket = by
            if self.over:
                self._shut()

    def end(self) -> None:
        """Shut the connection: whoever reads from it finds its end."""
        with self._lock:
            self.over = True
            self._shut()

    def _shut(self) -> None:
        if self._socket is not None:
            with suppress(OSError):  # it is closed already
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)  # not that of TLS, which is of the reader alone


class TimeLimits:
    """Watches the requests of all threads. Its thread starts with the first."""

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, Watch]] = []
        self._numbers = itertools.count()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = False

    def watch(self, seconds: float) -> Watch:
        """Watch a request that starts now."""
        made = Watch(time.monotonic() + seconds)
        with self._changed:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="time limits", daemon=True)
                self._thread.start()
            heapq.heappush(self._heap, (made.ends, next(self._numbers), made))
            if self._heap[0][2] is made:
                self._changed.notify()
        return made

    def close(self) -> None:
        """End the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def _run(self) -> None:
        with self._changed:
            while not self._closed:
                left = self._heap[0][0] - time.monotonic() if self._heap else None
                if left is None or left > 0:
                    self._changed.wait(left)
                else:
                    heapq.heappop(self._heap)[2].end()
