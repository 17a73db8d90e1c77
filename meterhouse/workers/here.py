"""Passes in this process, and what all workers have in common."""

import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol, TypeVar

import pyarrow as pa

if TYPE_CHECKING:
    from meterhouse.site import Site

P = TypeVar("P")
R = TypeVar("R")
P_contra = TypeVar("P_contra", contravariant=True)
R_co = TypeVar("R_co", covariant=True)


class PassFunction(Protocol[P_contra, R_co]):
    """What is done with a part of the data."""

    def __call__(self, site: "Site", threads: ThreadPoolExecutor, part: P_contra, /) -> R_co:
        """Do it with the stores of a site."""


class Workers(Protocol):
    """Where passes run."""

    @property
    def number(self) -> int:
        """How many passes run at once."""

    def chosen(self, points: int) -> "Workers":
        """The workers that are worth their while for so many points."""

    def each(self, function: PassFunction[P, R], parts: Iterable[P], threads: ThreadPoolExecutor) -> Iterator[R]:
        """Call the function with each part; yield the results in order.

        Args:
            function: what is done; it can be pickled.
            parts: they can be pickled.
            threads: those of this process.

        Raises:
            MeterhouseError: what the function has raised, or the workers cannot be used.
        """


class Here:
    """This process: one pass after the other, each in several threads."""

    number = 1

    def __init__(self, site: "Site") -> None:
        self.site = site

    def chosen(self, points: int) -> "Here":
        """See `Workers`."""
        return self

    def each(self, function: PassFunction[P, R], parts: Iterable[P], threads: ThreadPoolExecutor) -> Iterator[R]:
        """See `Workers`."""
        for part in parts:
            yield function(self.site, threads, part)


@contextmanager
def worker_threads(number: int | None = None) -> Iterator[ThreadPoolExecutor]:
    """Threads for passes; by default one a processor, because NumPy and Arrow let others run while they compute."""
    # What is freed must go back to the system: other pools keep as much as the largest pass took.
    pa.set_memory_pool(pa.system_memory_pool())
    with ThreadPoolExecutor(number or len(os.sched_getaffinity(0)), "judging") as threads:
        yield threads
