"""Work for an answer, in threads beside the loop that talks to clients."""

from collections.abc import Callable
from typing import TypeVar

from fastapi import Request
from starlette.concurrency import run_in_threadpool

T = TypeVar("T")


async def run(request: Request, work: Callable[[], T]) -> T:
    """The result of work that may wait for a store.

    Args:
        request: for which it is done.
        work: a function that is run in a thread.
    """
    return await run_in_threadpool(work)
