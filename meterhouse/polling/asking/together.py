"""Does things at the same time in shared threads; who waits for them works too, so that nobody waits for a thread."""

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class Together:
    """Shared threads.

    Args:
        threads: how many.
    """

    def __init__(self, threads: int) -> None:
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="asking")

    def each(
        self, function: Callable[[_Item], _Result], items: Iterable[_Item], at_once: int
    ) -> list[_Result | Exception]:
        """The function's results, in the order of the items; an exception in place of the result that it kept away.

        Args:
            function: what to do.
            items: with what.
            at_once: with how many at the same time at most, of which one by the caller itself.
        """
        todo = list(items)
        results: list[Any] = [None] * len(todo)
        numbers = iter(range(len(todo)))
        lock = threading.Lock()

        def work() -> None:
            while True:
                with lock:
                    number = next(numbers, None)
                if number is None:
                    return
                try:
                    results[number] = function(todo[number])
                except Exception as error:  # given to the caller
                    results[number] = error

        helpers = [self._threads.submit(work) for _ in range(min(at_once, len(todo)) - 1)]
        work()
        for helper in helpers:
            if not helper.cancel():
                helper.result()
        return results

    def close(self) -> None:
        """End the threads once they have done what they do."""
        self._threads.shutdown(wait=False, cancel_futures=True)
