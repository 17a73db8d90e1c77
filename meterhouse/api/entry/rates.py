"""How many requests a project may make: a bucket of tokens that fills evenly, and holds those of one minute."""

from collections import OrderedDict
from collections.abc import Callable
from math import ceil
from time import monotonic
from typing import Final

from meterhouse.api.access.identity import Identity
from meterhouse.api.answers.faults import Fault

PROJECTS: Final = 100_000
"""How many projects are remembered; a project that is forgotten begins with a full bucket."""


class Rates:
    """The requests of each project. Those without a project count together.

    Args:
        per_minute: requests of a project in a minute at most; 0: any number.
        clock: seconds that only grow.
    """

    def __init__(self, per_minute: int, clock: Callable[[], float] = monotonic) -> None:
        self._per_minute, self._clock = per_minute, clock
        self._full_at: OrderedDict[str, float] = OrderedDict()

    def check(self, identity: Identity) -> None:
        """Count a request.

        Raises:
            Fault: it is one too many: status 429.
        """
        if not self._per_minute:
            return
        now, each = self._clock(), 60 / self._per_minute
        project = identity.project_id
        full_at = max(self._full_at.get(project, now), now) + each
        if (wait := full_at - now - 60) > 1e-6:
            seconds = ceil(wait)
            raise Fault(
                429,
                f"The project has made more than {self._per_minute:,} requests in a minute. Try again in {seconds} "
                "seconds",
                {"Retry-After": str(seconds)},
            )
        self._full_at[project] = full_at
        self._full_at.move_to_end(project)
        while len(self._full_at) > PROJECTS:
            self._full_at.popitem(last=False)
