"""Commits what many threads bring together, in one thread: whatever came while a commit ran is the next one.

A commit costs about the same for one message and for a thousand: an fsync, a round trip to a broker, a version of a
table. So the more there are who wait, the less each costs.
"""

import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Final, Generic, TypeVar

from meterhouse.errors import Unavailable

T = TypeVar("T")

TOGETHER: Final = 8 << 20
"""Bytes at which a commit takes no more."""

WAITING: Final = 64 << 20
"""Bytes that may wait. Who brings more is refused."""

IDLE_SECONDS: Final = 1.0


class GroupCommit(Generic[T]):
    """A thread that commits messages, started by the first.

    Args:
        commit: commits messages, and returns what each who brought some gets. It is called by one thread.
        idle: called by the same thread about each second in which nothing comes.
        close: called by it at its end.
        name: of the thread.
    """

    def __init__(
        self,
        commit: Callable[[Sequence[bytes]], T],
        *,
        idle: Callable[[], None] = lambda: None,
        close: Callable[[], None] = lambda: None,
        name: str = "commits",
    ) -> None:
        self._commit, self._idle, self._close, self._name = commit, idle, close, name
        self._came: queue.SimpleQueue[tuple[Sequence[bytes], Future[T]] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._bytes = 0
        self._thread: threading.Thread | None = None
        self._closed = False

    def submit(self, messages: Sequence[bytes]) -> "Future[T]":
        """Commit messages; the result comes when they are durable, and is the error if they are not.

        Raises:
            Unavailable: too much waits already, or it is closed.
        """
        size = sum(map(len, messages))
        done: Future[T] = Future()
        with self._lock:
            if self._closed:
                raise Unavailable("the server is ending", hint="Send it again, with the same Idempotency-Key")
            if self._bytes and self._bytes + size > WAITING:
                raise Unavailable("too many samples wait to be stored", hint="Send them again in a few seconds")
            self._bytes += size
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                self._thread.start()
            self._came.put((messages, done))
        return done

    def close(self) -> None:
        """Commit what waits, and end."""
        with self._lock:
            self._closed = True
            thread = self._thread
        if thread is not None:
            self._came.put(None)
            thread.join()

    def _run(self) -> None:
        while True:
            try:
                first = self._came.get(timeout=IDLE_SECONDS)
            except queue.Empty:
                self._idle()
                continue
            ended = first is None
            group = [] if first is None else [first]
            size = sum(len(each) for messages, _ in group for each in messages)
            while not ended and size < TOGETHER and not self._came.empty():
                more = self._came.get()
                if more is None:
                    ended = True
                else:
                    group.append(more)
                    size += sum(map(len, more[0]))
            if group:
                self._settle(group)
            with self._lock:
                self._bytes -= size
            if ended:
                self._close()
                return

    def _settle(self, group: "list[tuple[Sequence[bytes], Future[T]]]") -> None:
        group = [each for each in group if each[1].set_running_or_notify_cancel()]
        try:
            found = self._commit([message for messages, _ in group for message in messages])
        except Exception as error:  # each who waits gets it
            for _, done in group:
                done.set_exception(error)
        else:
            for _, done in group:
                done.set_result(found)
