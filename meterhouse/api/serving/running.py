"""Work for an answer, in threads beside the loop that talks to clients, for as long as somebody waits for it."""

import asyncio
import time
from collections.abc import Callable
from typing import Final, TypeVar, cast

from fastapi import Request

from meterhouse.api.answers.faults import Fault
from meterhouse.api.serving.job import Job
from meterhouse.api.serving.lane import Full
from meterhouse.api.serving.lanes import Lanes

T = TypeVar("T")

SOON: Final = 0.1
"""After so many seconds, a job takes long: others do not wait for it, and the client may have gone."""

AGAIN: Final = 0.05
"""How many seconds lie between two interrupts of a job that is to end."""

RETRY_AFTER: Final = 5
"""In how many seconds a client may ask again whose question finds no place in the queue."""

GONE: Final = 499
"""The status of requests whose client has gone. It has no name in HTTP, and nobody sees it but the access log."""

_ending: set["asyncio.Task[None]"] = set()


async def run(request: Request, work: Callable[[], T], owner: str = "", *, reads: bool | None = None) -> T:
    """The result of work that may wait for a store.

    If the client goes, or the time is over, work that only reads is cancelled: see `cancelling`. It has to be such that
    it can begin again. Other work goes on to its end.

    Args:
        request: for which it is done.
        work: a function that is run in a thread.
        owner: the project, or the user, for whom it is done.
        reads: whether it only reads; default whether the method of the request is GET or HEAD.

    Raises:
        Fault: too many questions wait, the time is over, or the client has gone.
    """
    lanes: Lanes = request.app.state.lanes
    seconds: float = request.app.state.site.settings.api_seconds
    only_reads = request.method in ("GET", "HEAD") if reads is None else reads
    loop = asyncio.get_running_loop()
    job = Job(work, owner, loop.create_future(), loop)
    end = _end(request, seconds)
    try:
        lanes.submit(job)
        found = cast(T, await _result(request, lanes, job, end))
    except Full:
        raise _full() from None
    except TimeoutError:
        raise _late(seconds, only_reads) from None
    finally:
        request.state.waited = (job.begun_at or time.monotonic()) - job.made_at
        if not job.result.done():
            if only_reads:
                _give_up(lanes, job)
            else:
                job.result.add_done_callback(_looked_at)
    return found


def _end(request: Request, seconds: float) -> float:
    """When the time of a request is over, by `time.monotonic`."""
    if not hasattr(request.state, "end"):
        request.state.end = time.monotonic() + seconds
    end: float = request.state.end
    return end


async def _result(request: Request, lanes: Lanes, job: Job, end: float) -> object:
    """What a job returns.

    Raises:
        Fault: the client has gone.
        TimeoutError: the time is over.
    """
    done, _ = await asyncio.wait({job.result}, timeout=min(SOON, max(end - time.monotonic(), 0)))
    if done:
        return job.result.result()
    lanes.takes_long(job)
    gone = asyncio.ensure_future(_gone(request))
    try:
        left = max(end - time.monotonic(), 0)
        done, _ = await asyncio.wait({job.result, gone}, timeout=left, return_when=asyncio.FIRST_COMPLETED)
    finally:
        gone.cancel()
    if job.result in done:
        return job.result.result()
    if gone in done:
        raise Fault(GONE, "The client has gone")
    raise TimeoutError


async def _gone(request: Request) -> None:
    """End when the client has gone. What it sends is read already, or not wanted."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _give_up(lanes: Lanes, job: Job) -> None:
    """Cancel a job, without waiting for its end."""
    job.result.add_done_callback(_looked_at)
    if not lanes.give_up(job):
        task = asyncio.get_running_loop().create_task(_ended(lanes, job))
        _ending.add(task)
        task.add_done_callback(_ending.discard)


async def _ended(lanes: Lanes, job: Job) -> None:
    """Interrupt a job until it has ended."""
    while not await asyncio.to_thread(lanes.give_up, job):
        await asyncio.sleep(AGAIN)


def _looked_at(result: "asyncio.Future[object]") -> None:
    """Nobody waits for this result; an error of it is none."""
    if not result.cancelled():
        result.exception()


def _full() -> Fault:
    return Fault(
        503,
        f"Too many questions wait for an answer. Ask again in {RETRY_AFTER} seconds",
        {"Retry-After": str(RETRY_AFTER)},
    )


def _late(seconds: float, only_reads: bool) -> Fault:
    if only_reads:
        return Fault(
            504,
            f"There is no answer after {seconds:g} seconds. Ask for less: a shorter span of time, one resource or "
            "project, a longer period, or a lower limit",
        )
    return Fault(504, f"It is not done after {seconds:g} seconds, and may still be done. Ask whether it was")
