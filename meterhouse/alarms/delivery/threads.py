"""Calls that block, in threads that nobody has to wait for: to a resolver that hangs, or to a slow Keystone."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

Result = TypeVar("Result")


def in_thread(function: Callable[[], Result]) -> "asyncio.Future[Result]":
    """The result of a function. Whoever stops waiting for it leaves the thread to the function's own time limits."""
    loop = asyncio.get_running_loop()
    found: asyncio.Future[Result] = loop.create_future()
    found.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody may wait for it any more

    def settle(method: Callable[[Any], None], value: Any) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits
            loop.call_soon_threadsafe(lambda: None if found.done() else method(value))

    def run() -> None:
        try:
            result = function()
        except Exception as error:
            settle(found.set_exception, error)
        else:
            settle(found.set_result, result)

    threading.Thread(target=run, daemon=True, name=f"delivery-{function.__name__}").start()
    return found
