"""What follows a landing: conversion, and the catalog of what was converted.

A thread does it beside the landing, so that a warehouse that does not answer holds up nothing. A stream that brings
much keeps one core busy with draining and landing; conversion, which follows the lake and not the stream, then has a
process of its own. It ends when the one that started it does, however that ends.
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
from meterhouse.settings import Settings
from meterhouse.site import Site

WAIT_SECONDS = 60.0
"""How long the last look waits for another process that converts, so that nothing landed is left unconverted."""

END_SECONDS = 3.0
"""How long a run that is asked to end waits for what is being done."""

log = logging.getLogger(__name__)


@dataclass
class Followed:
    """What conversion and catalog did."""

    converted: Conversion = field(default_factory=Conversion)
    catalogued: Catalogued = field(default_factory=Catalogued)

    def add(self, other: "Followed") -> None:
        """Count the other in."""
        self.converted.add(other.converted)
        self.catalogued.add(other.catalogued)


def follow(site: Site, *, wait_seconds: float = 0.0) -> Followed:
    """Convert what was landed, and take what was converted into the catalog.

    Raises:
        AlreadyRunning: another process is still running it after `wait_seconds`.
        MeterhouseError: definitions cannot be read, or the lake or the warehouse cannot be reached.
    """
    converted = convert(site, wait_seconds=wait_seconds, record=False)
    return Followed(converted, catalog(site, wait_seconds=wait_seconds, record=False))


class Follower:
    """Follows landings as it is told of them, beside the landing: what takes long or fails there does not hold it up.

    For one thread.
    """

    def __init__(self, site: Site) -> None:
        self.site = site
        self.done = Followed()
        self.failure: Exception | None = None
        self._beside = _Beside(site)
        self._process: _Process | None = None

    def start_process(self) -> None:
        """From now on follow in a process of its own, where there is a core for it."""
        if self._process is None and len(os.sched_getaffinity(0)) > 1:
            self._process = _Process(self.site.settings)

    def landed(self) -> None:
        """Follow what was landed as soon as what is at it now has ended."""
        self._take(self._beside.answers())
        if self._process is not None:
            self._process.ask()
            self._take(self._process.answers())
            if self._process.alive:
                return
            self._process.kill()
            self._process = None
        self._beside.ask()

    def retry(self) -> None:
        """Follow once more if the last time failed."""
        self._take(self._beside.answers())
        if self._process is not None:
            self._take(self._process.answers())
        if self.failure is not None:
            self.landed()

    def later(self, step: Callable[..., object], *arguments: object) -> None:
        """Do something beside the landing, after what is to be done there already."""
        self._beside.submit(step, *arguments)

    def finish(self) -> None:
        """Follow to the end of what is landed.

        Raises:
            MeterhouseError: as `follow`; all that was landed is in the lake, and is converted the next time.
        """
        if self._process is not None:
            self._take(self._process.close())
            self._process = None
        self._take(self._beside.close())
        if self.failure is not None or unconverted(self.site) + commits_behind(self.site):
            try:
                self.done.add(follow(self.site, wait_seconds=WAIT_SECONDS))
            except MeterhouseError as error:
                self._failed(error)
                raise

    def abandon(self) -> None:
        """End without waiting; the process is killed at what it is at, as it may be at any time."""
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
            log.warning("%s%s; landing goes on", kind, error)
        self.failure = error


class _Beside:
    """A thread that follows when it is asked to."""

    def __init__(self, site: Site) -> None:
        # A lake of its own, for a table that is open is not for two threads.
        self._site = replace(site)
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="following")
        self._running: Future[Followed] | None = None
        self._last: Future[Any] | None = None
        self._again = False

    def submit(self, step: Callable[..., object], *arguments: object) -> None:
        """Do something after what is to be done already."""
        self._last = self._pool.submit(step, *arguments)

    def ask(self) -> None:
        """Follow what is landed by now."""
        if self._running is None:
            self._running = self._last = self._pool.submit(follow, self._site)
        else:
            self._again = True

    def answers(self) -> list[Followed | Exception]:
        """What it has done since the last time."""
        return [self._answer(self._running)] if self._running is not None and self._running.done() else []

    def close(self) -> list[Followed | Exception]:
        """Wait until it has done what it was asked to, and end it."""
        found = []
        while self._running is not None:
            found.append(self._answer(self._running))
        self._pool.shutdown()
        return found

    def kill(self) -> None:
        """Begin nothing more; what is asked for already is done, and waited for a moment."""
        self._pool.shutdown(wait=False)
        if self._last is not None:
            wait([self._last], timeout=END_SECONDS)

    def _answer(self, ended: "Future[Followed]") -> Followed | Exception:
        try:
            return ended.result()
        except Exception as error:  # whatever it is, it must not end the landing
            return error
        finally:
            self._running = None
            if self._again:
                self._again = False
                self.ask()


class _Process:
    """A process that follows when it is asked to."""

    def __init__(self, settings: Settings) -> None:
        self._answers: queue.Queue[bytes] = queue.Queue()
        self._asked = self._again = False
        self.alive = True
        environment = {name: value for name, value in os.environ.items() if not name.startswith("METERHOUSE_")}
        self._child = subprocess.Popen(
            [sys.executable, "-m", "meterhouse.collection.following"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment | _variables(settings),
        )
        self._reader = threading.Thread(target=self._read, daemon=True, name="following")
        self._reader.start()

    def _read(self) -> None:
        assert self._child.stdout is not None
        for line in self._child.stdout:
            self._answers.put(line)
        self._answers.put(b"")

    def ask(self) -> None:
        """Follow what is landed by now."""
        if self._asked:
            self._again = True
            return
        assert self._child.stdin is not None
        try:
            self._child.stdin.write(b"\n")
            self._child.stdin.flush()
            self._asked = True
        except OSError:
            self.alive = False

    def answers(self) -> list[Followed | Exception]:
        """What it has done since the last time."""
        found: list[Followed | Exception] = []
        while not self._answers.empty():
            found += self._answer()
        return found

    def close(self) -> list[Followed | Exception]:
        """Wait until it has done what it was asked to, and end it."""
        found: list[Followed | Exception] = []
        while self._asked and self.alive:
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
            self.alive = self._asked = False
            return []
        self._asked = False
        if self._again:
            self._again = False
            self.ask()
        try:
            answer = json.loads(line)
        except ValueError:  # cut off by its end
            return []
        if "error" in answer:
            kind: type[MeterhouseError] = getattr(errors, answer["error"])
            return [kind(answer["what"]) if issubclass(kind, Conflict) else MeterhouseError(answer["what"])]
        converted, catalogued = answer["converted"], answer["catalogued"]
        converted["error_kinds"] = Counter(converted["error_kinds"])
        return [Followed(Conversion(**converted), Catalogued(**catalogued))]


def _variables(settings: Settings) -> dict[str, str]:
    """The environment in which another process reads these settings."""
    given = settings.model_dump(mode="json", exclude_unset=True, exclude_none=True)
    return {f"METERHOUSE_{name.upper()}": _text(value) for name, value in given.items()}


def _text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def main() -> None:
    """Follow at each line of standard input, and answer with a line of JSON, until there is no more input."""
    from meterhouse.conversion.convert import Converter

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal sends it to all; who started this one closes its input
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what anything else prints is no answer
    site = Site.open()
    with contextlib.suppress(MeterhouseError):  # it comes again with the first piece, which then says so
        Converter.by(site.settings, site.definitions)
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
