"""A site that is in use, for tests: its steps run again and again in threads, each with stores of its own."""

import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import Final

from meterhouse.alarms.delivery.deliver import deliver
from meterhouse.alarms.evaluation.cycle import evaluate_all
from meterhouse.collection.intake import intake
from meterhouse.errors import Conflict
from meterhouse.rollups.following import Following, follow, keep_following
from meterhouse.rollups.step import roll_up
from meterhouse.settings import Settings
from meterhouse.site import Site


def _roll_up(site: Site) -> None:
    followed = Following()
    roll_up(site, progress=keep_following(site, followed))
    follow(site, followed)


STEPS: Final[Mapping[str, Callable[[Site], object]]] = {
    "collect": intake,
    "rollup": _roll_up,
    "evaluate": evaluate_all,
    "deliver": deliver,
}


@contextmanager
def living(settings: Settings, without: Collection[str] = ()) -> Iterator[None]:
    """Run the steps of a site until the block ends.

    Args:
        settings: of the site.
        without: steps that do not run.
    """
    ended = threading.Event()
    failures: list[Exception] = []

    def repeat(step: Callable[[Site], object]) -> None:
        site = Site.open(settings)
        try:
            while not ended.wait(0.2):
                try:
                    step(site)
                except Conflict:
                    continue
        except Exception as error:
            failures.append(error)
        finally:
            site.warehouse.engine.dispose()

    threads = [threading.Thread(target=repeat, args=(step,)) for name, step in STEPS.items() if name not in without]
    for each in threads:
        each.start()
    try:
        yield
    finally:
        ended.set()
        for each in threads:
            each.join()
    if failures:
        raise failures[0]
