"""The work that follows landing: conversion, and the catalog of what was converted.

A thread does it in parallel to landing, so that a warehouse that does not answer does not hold up landing. With much
traffic, draining and landing use a whole core. Conversion, which follows the lake and not the stream, then runs in a
separate process. That process ends when the one that started it ends, for whatever reason.
"""

import contextlib
import json
import logging
import os
import queue
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from typing import Any

from meterhouse import errors
from meterhouse.catalog import Catalogued, catalog, commits_behind
from meterhouse.conversion.step import Conversion, convert, unconverted
from meterhouse.errors import Conflict, MeterhouseError
from meterhouse.pandas_free import keep_pandas_out
from meterhouse.settings import Settings, as_environment
from meterhouse.site import Site

WAIT_SECONDS = 60.0
"""How long the last conversion waits for another process that converts, so that everything landed is converted."""

END_SECONDS = 3.0
"""How long a run that is stopped waits for the work in progress."""

log = logging.getLogger(__name__)


@dataclass
class Followed:
    """What conversion and catalog did."""

    converted: Conversion = field(default_factory=Conversion)
    catalogued: Catalogued = field(default_factory=Catalogued)

    def add(self, other: "Followed") -> None:
        """Add the counts of another run."""
        self.converted.add(other.converted)
        self.catalogued.add(other.catalogued)


def follow(site: Site, *, wait_seconds: float = 0.0) -> Followed:
    """Convert what was landed, and add it to the catalog.

    Raises:
        AlreadyRunning: another process is still running it after `wait_seconds`.
        MeterhouseError: definitions cannot be read, or the lake or the warehouse cannot be reached.
    """
    converted = convert(site, wait_seconds=wait_seconds, record=False)
    return Followed(converted, catalog(site, wait_seconds=wait_seconds, record=False))


Came = Callable[[], None]
"""Called when new events are in the lake, from any thread. It must return at once."""


def nobody() -> None:
    """Nobody wants to know."""


class Follower:
    """Converts and catalogs what is landed, in parallel to landing: delays and errors there do not hold up landing.

    Use it from one thread.

    Args:
        site: the site.
        came: called each time when there are new events.
    """

    def __init__(self, site: Site, came: Came = nobody) -> None:
        self.site = site
        self.done = Followed()
        self.failure: Exception | None = None
        self._came = came
        self._beside = _Beside(site, came)
        self._process: _Process | None = None

    def start_process(self) -> None:
        """From now on, follow in a separate process, if there is more than one core."""
        if self._process is None and len(os.sched_getaffinity(0)) > 1:
            self._process = _Process(self.site.settings, self._came)

    def landed(self) -> None:
        """Follow what was landed, as soon as the current work has ended."""
        self._take(self._beside.answers())
        if self._process is not None:
            self._process.request()
            self._take(self._process.answers())
            if self._process.alive:
                return
            self._process.kill()
            self._process = None
        self._beside.request()

    def retry(self) -> None:
        """Follow again if the last attempt failed."""
        self._take(self._beside.answers())
        if self._process is not None:
            self._take(self._process.answers())
        if self.failure is not None:
            self.landed()

    def later(self, step: Callable[..., object], *arguments: object) -> None:
        """Call a function in parallel to landing, after the work that is already scheduled there."""
        self._beside.submit(step, *arguments)

    def finish(self) -> None:
        """Follow until everything landed is converted and in the catalog.

        Raises:
            MeterhouseError: as in `follow`. Everything landed is in the lake, and the next run converts it.
        """
        if self._process is not None:
            self._take(self._process.close())
            self._process = None
        self._take(self._beside.close())
        if self.failure is not None or unconverted(self.site) + commits_behind(self.site):
            try:
                self.done.add(_followed(self.site, self._came, WAIT_SECONDS))
            except MeterhouseError as error:
                self._failed(error)
                raise

    def abandon(self) -> None:
        """End without waiting. The process is killed during its work, which is safe at any time."""
        if self._process is not None:
            self._process.kill()
            self._process = None
        self._beside.kill()

    def _take(self, answers: "list[Followed | Exception]") -> None:
        for answer in answers:
            if isinstance(answer, Exception):
                self._failed(answer)
            else:
                self.done.add(answer)
                self.failure = None

    def _failed(self, error: Exception) -> None:
        if not isinstance(error, Conflict) and str(error) != str(self.failure):
            kind = "" if isinstance(error, MeterhouseError) else f"{type(error).__name__}: "
            log.warning("%s%s; landing continues", kind, error)
        self.failure = error


def _followed(site: Site, came: Came, wait_seconds: float = 0.0) -> Followed:
    done = follow(site, wait_seconds=wait_seconds)
    if done.converted.events:
        came()
    return done


class _Beside:
    """A thread that follows on request."""

    def __init__(self, site: Site, came: Came) -> None:
        self._came = came
        # It needs its own lake, because two threads must not share an open table.
        self._site = replace(site)
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="following")
        self._running: Future[Followed] | None = None
        self._last: Future[Any] | None = None
        self._again = False

    def submit(self, step: Callable[..., object], *arguments: object) -> None:
        """Call a function after the work that is already scheduled."""
        self._last = self._pool.submit(step, *arguments)

    def request(self) -> None:
        """Follow what is landed by now."""
        if self._running is None:
            self._running = self._last = self._pool.submit(_followed, self._site, self._came)
        else:
            self._again = True

    def answers(self) -> list[Followed | Exception]:
        """The results since the last call."""
        return [self._answer(self._running)] if self._running is not None and self._running.done() else []

    def close(self) -> list[Followed | Exception]:
        """Wait for the requested work, and end the thread."""
        found = []
        while self._running is not None:
            found.append(self._answer(self._running))
        self._pool.shutdown()
        return found

    def kill(self) -> None:
        """Start no more work. The scheduled work is still done; wait for it for at most END_SECONDS."""
        self._pool.shutdown(wait=False)
        if self._last is not None:
            wait([self._last], timeout=END_SECONDS)

    def _answer(self, ended: "Future[Followed]") -> Followed | Exception:
        try:
            return ended.result()
        except Exception as error:  # no error may end landing
            return error
        finally:
            self._running = None
            if self._again:
                self._again = False
                self.request()


class _Process:
    """A process that follows on request."""

    def __init__(self, settings: Settings, came: Came) -> None:
        self._came = came
        self._answers: queue.Queue[bytes] = queue.Queue()
        self._requested = self._again = False
        self.alive = True
        environment = {name: value for name, value in os.environ.items() if not name.startswith("METERHOUSE_")}
        self._child = subprocess.Popen(
            [sys.executable, "-m", "meterhouse.collection.following"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment | as_environment(settings),
        )
        self._reader = threading.Thread(target=self._read, daemon=True, name="following")
        self._reader.start()

    def _read(self) -> None:
        assert self._child.stdout is not None
        for line in self._child.stdout:
            self._answers.put(line)
            with contextlib.suppress(ValueError):  # cut off because the process ended
                if json.loads(line).get("converted", {}).get("events"):
                    self._came()
        self._answers.put(b"")

    def request(self) -> None:
        """Follow what is landed by now."""
        if self._requested:
            self._again = True
            return
        assert self._child.stdin is not None
        try:
            self._child.stdin.write(b"\n")
            self._child.stdin.flush()
            self._requested = True
        except OSError:
            self.alive = False

    def answers(self) -> list[Followed | Exception]:
        """The results since the last call."""
        found: list[Followed | Exception] = []
        while not self._answers.empty():
            found += self._answer()
        return found

    def close(self) -> list[Followed | Exception]:
        """Wait for the requested work, and end the process."""
        found: list[Followed | Exception] = []
        while self._requested and self.alive:
            found += self._answer()
        assert self._child.stdin is not None
        with contextlib.suppress(OSError):
            self._child.stdin.close()
        self._end()
        return found

    def kill(self) -> None:
        """End it at once."""
        self._child.kill()
        assert self._child.stdin is not None
        with contextlib.suppress(OSError):
            self._child.stdin.close()
        self._end()

    def _end(self) -> None:
        self._child.wait()
        self._reader.join()
        assert self._child.stdout is not None
        self._child.stdout.close()

    def _answer(self) -> list[Followed | Exception]:
        line = self._answers.get()
        if not line:
            self.alive = self._requested = False
            return []
        self._requested = False
        if self._again:
            self._again = False
            self.request()
        try:
            answer = json.loads(line)
        except ValueError:  # cut off because the process ended
            return []
        if "error" in answer:
            kind: type[MeterhouseError] = getattr(errors, answer["error"], MeterhouseError)
            return [kind(answer["what"]) if issubclass(kind, Conflict) else MeterhouseError(answer["what"])]
        converted, catalogued = answer["converted"], answer["catalogued"]
        converted["error_kinds"] = Counter(converted["error_kinds"])
        return [Followed(Conversion(**converted), Catalogued(**catalogued))]


def main() -> None:
    """For each line of standard input, follow and answer with a line of JSON."""
    from meterhouse.conversion.convert import Converter

    keep_pandas_out()
    # The terminal sends SIGINT to all processes. This one ends when its parent closes its input.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # other output must not mix with the answers
    site = Site.open()
    with contextlib.suppress(MeterhouseError):  # the first request raises it again, and reports it
        Converter.from_settings(site.settings, site.definitions)
    for _ in sys.stdin.buffer:
        try:
            done = follow(site, wait_seconds=1.0)
            answer: dict[str, Any] = {"converted": vars(done.converted), "catalogued": vars(done.catalogued)}
        except MeterhouseError as error:
            answer = {"error": type(error).__name__, "what": str(error)}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    main()
