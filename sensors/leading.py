"""What a tick checks if several machines have a daemon: that its own still leads.

A daemon that was paused, and that another one has replaced since, is killed as soon as it continues (see
`meterhouse.daemon.lead`). Until then, it starts nothing.
"""

import functools
import os
import time
from collections.abc import Callable
from typing import Any, Final, ParamSpec

import dagster as dg

from assets.resources import open_site
from meterhouse.daemon import leader
from meterhouse.errors import MeterhouseError

DEPOSED: Final = "the daemon of another machine leads now"

END_SECONDS: Final = 10.0
"""How long the daemon may take to be killed."""

P = ParamSpec("P")


def leads() -> bool:
    """Whether the daemon that asked for this tick still leads, or needs no lease."""
    return leader.VARIABLE not in os.environ or not leader.deposed(open_site().warehouse)


def skips_unless_leading(function: Callable[P, Any]) -> Callable[P, Any]:
    """Let a sensor skip the ticks of a daemon that no longer leads. The other daemon has its own, seconds later."""

    @functools.wraps(function)
    def ticked(*arguments: P.args, **options: P.kwargs) -> Any:
        return function(*arguments, **options) if leads() else dg.SkipReason(DEPOSED)

    return ticked


def waits_unless_leading(function: Callable[P, Any]) -> Callable[P, Any]:
    """Let a schedule's tick last until the daemon that no longer leads is killed.

    There is one tick for each scheduled time, whichever daemon makes it. The other daemon repeats one that has not
    ended, and leaves out one that was skipped.
    """

    @functools.wraps(function)
    def ticked(*arguments: P.args, **options: P.kwargs) -> Any:
        if not leads():
            time.sleep(END_SECONDS)
            raise MeterhouseError(DEPOSED)
        return function(*arguments, **options)

    return ticked


@waits_unless_leading
def always(context: dg.ScheduleEvaluationContext) -> bool:
    """Execute a schedule at each of its times."""
    return True
