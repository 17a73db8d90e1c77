"""Evaluates event alarms when events come, and delivers what they make at once, in parallel to collection.

Neither holds up collection: evaluation has a thread of its own, and so has each delivery, because a receiver may be
slow. What fails is tried again, and what a killed process did not do is done by the next one: the warehouse knows which
events were evaluated, and the outbox what was delivered. Without event alarms it does nothing.
"""

import logging
import threading
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from meterhouse.alarms.keeping.watched_events import Asked
from meterhouse.errors import Conflict, MeterhouseError
from meterhouse.site import Site

if TYPE_CHECKING:
    from meterhouse.alarms.evaluation.event_alarms import Loader

RETRY_SECONDS: Final = (0.5, 30.0)
"""The first and the longest pause before evaluation is tried again. Each is twice as long as the one before."""

DELIVERIES: Final = 4
"""How many deliveries there are at the same time: all but the last may wait for slow receivers."""

LOOK_SECONDS: Final = 2.0
"""How often what failed is looked for, to be delivered again when its pause is over."""

END_SECONDS: Final = 5.0
"""How long the end waits for what is under way. What is not done by then is done by the next process."""

log = logging.getLogger(__name__)


class AtOnce:
    """A context manager: `came` lets the events that came be evaluated. It may be called from any thread.

    When it is entered, events that came before are evaluated too.
    """

    def __init__(self, site: Site) -> None:
        self._site = replace(site)  # its own lake, because two threads must not share an open table
        self._wake = threading.Condition()
        self._wanted = True
        self._wanted_now = False
        self._ending = self._ended = False
        self._delivering = 0
        self._waiting = True  # a killed process may have left something to deliver
        self._failed = ""
        self._asked = Asked()
        self._loader: Loader | None = None
        self._evaluating = threading.Thread(target=self._evaluate, daemon=True, name="event-alarms")

    def __enter__(self) -> Self:
        self._evaluating.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._wake:
            self._ending = True
            self._wake.notify_all()
            self._wake.wait_for(lambda: self._ended and not self._delivering, END_SECONDS)

    def came(self) -> None:
        """Evaluate the events that came. It returns at once."""
        with self._wake:
            self._wanted = True
            self._wake.notify_all()

    def _evaluate(self) -> None:
        pause = RETRY_SECONDS[0]
        while self._wait():
            try:
                made = self._evaluated() if self._wanted_now else 0
            except Exception as error:  # no error may end it
                self._note(error)
                with self._wake:
                    if not self._ending:
                        self._wake.wait_for(lambda: self._ending, pause)
                    self._wanted |= not self._ending
                pause = min(2 * pause, RETRY_SECONDS[1])
                continue
            self._failed, pause = "", RETRY_SECONDS[0]
            if made or self._waiting:
                self._deliver()
        with self._wake:
            self._ended = True
            self._wake.notify_all()

    def _wait(self) -> bool:
        """Wait until something is to be evaluated, or may be delivered again; false at the end."""
        with self._wake:
            timed_out = False
            while not (self._wanted or self._ending or (timed_out and self._waiting)):
                timed_out = not self._wake.wait(LOOK_SECONDS if self._waiting else None)
            self._wanted_now, self._wanted = self._wanted, False
            return self._wanted_now or not self._ending

    def _evaluated(self) -> int:
        """Evaluate what came; return how many notifications that made."""
        with self._site.warehouse.read() as connection:
            if not self._asked.is_any(connection):
                self._waiting = False
                return 0
        from meterhouse.alarms.evaluation.event_alarms import Loader
        from meterhouse.alarms.evaluation.events import evaluate_events

        self._loader = self._loader or Loader()
        done = evaluate_events(self._site, self._loader)
        if not done.alarms:  # the last one has gone, and nobody follows events any more
            self._asked = Asked()
        return done.notifications

    def _deliver(self) -> None:
        """Deliver what is due, unless as many deliveries as may be are under way, which take it too."""
        with self._wake:
            if self._delivering >= DELIVERIES:
                return
            self._delivering += 1
        threading.Thread(target=self._delivered, daemon=True, name="event-webhooks").start()

    def _delivered(self) -> None:
        from meterhouse.alarms.delivery.deliver import deliver

        waiting = True
        try:
            waiting = deliver(self._site).pending > 0
        except Exception as error:  # it stays in the outbox
            log.warning("notifications of event alarms are not delivered yet: %s", error)
        finally:
            with self._wake:
                self._delivering -= 1
                self._waiting = waiting
                self._wake.notify_all()

    def _note(self, error: Exception) -> None:
        if not isinstance(error, Conflict) and str(error) != self._failed:
            kind = "" if isinstance(error, MeterhouseError) else f"{type(error).__name__}: "
            log.warning("event alarms are not evaluated yet: %s%s; collection continues", kind, error)
            self._failed = str(error)
