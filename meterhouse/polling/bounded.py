"""A member for a while: for runs of an orchestrator."""

import time
from datetime import datetime
from typing import Final

from meterhouse.polling import record
from meterhouse.polling.member.loop import Loop
from meterhouse.polling.member.reports import Done
from meterhouse.site import Site
from meterhouse.stores import clock

SOON: Final = 10.0
"""Seconds. A run waits for what is due so soon, because starting another one takes about as long."""


def poll_for(site: Site, seconds: float) -> Done:
    """Poll what is due and what becomes due soon; return what was done, all together.

    Args:
        site: the site.
        seconds: maximum time. What is not polled by then is released, and others poll it.

    Raises:
        MeterhouseError: the definition files cannot be used, or the warehouse does not answer.
    """
    end = time.monotonic() + seconds
    total = Done()
    while True:
        done = Loop(site, lambda: time.monotonic() >= end).run(follow=False)
        for name, number in vars(done).items():
            setattr(total, name, getattr(total, name) + number)
        pause = _until(site, record.make_due(site.warehouse))
        if pause > SOON or time.monotonic() + pause >= end:
            return total
        time.sleep(pause)


def _until(site: Site, due: datetime | None) -> float:
    """Seconds until then."""
    if due is None:
        return float("inf")
    with site.warehouse.read() as connection:
        return max(0.05, (due - clock.present(connection)).total_seconds())
