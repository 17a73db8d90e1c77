"""The thread that drains one broker, and reconnects if the connection is lost.

Only this thread uses the connection. The thread that lands hands acknowledgements over to it.
"""

import logging
import random
import threading
import time

from meterhouse.broker_urls import Broker
from meterhouse.errors import MeterhouseError
from meterhouse.stream.connection import GONE, Unreachable, open_link, unreachable
from meterhouse.stream.drain import Drain, Work
from meterhouse.stream.queues import Tls

BACK_OFF_SECONDS = (0.2, 15.0)
"""The first and the longest pause before the next attempt to connect. Each pause is twice as long as the one before."""

STEADY_SECONDS = 10.0
"""A shorter connection without messages counts as a failed attempt."""

PATIENCE_SECONDS = 60.0
"""If a broker is unavailable for longer, a run fails, unless it follows the stream."""

CLOSE_SECONDS = 15.0

log = logging.getLogger(__name__)


class Consumer(threading.Thread):
    """Drains the queues of one broker until the work is stopped.

    Attributes:
        failure: why it has ended, or cannot start.
    """

    def __init__(self, broker: Broker, tls: Tls, work: Work) -> None:
        super().__init__(daemon=True, name=f"amqp {broker.name}")
        self.broker, self.tls, self.work = broker, tls, work
        self.failure: Exception | None = None
        self._drain: Drain | None = None

    def is_over(self, quiet_seconds: float) -> bool:
        """Whether the consumer has given up or, unless it follows, nothing has come for `quiet_seconds`."""
        drain = self._drain
        if drain is None or not drain.consuming:
            return self.failure is not None or not self.is_alive()
        quiet_since = drain.quiet_since
        return not self.work.follow and quiet_since is not None and time.monotonic() - quiet_since >= quiet_seconds

    def join(self, timeout: float | None = CLOSE_SECONDS) -> None:
        """Wait until the acknowledgements are sent to the broker and the connection is closed."""
        super().join(timeout)

    def run(self) -> None:
        """Connect, drain, and reconnect if the connection is lost."""
        pause, working_at, has_worked = BACK_OFF_SECONDS[0], time.monotonic(), False
        while not self.work.stop.is_set():
            failure: MeterhouseError
            begun, drain = time.monotonic(), None
            try:
                link = open_link(self.broker, self.tls)
                try:
                    drain = self._drain = Drain(link, self.work)
                    drain.run()
                    self.failure = None
                    link.close()
                    return
                finally:
                    self._drain = None
                    link.drop()
            except GONE as error:
                failure = unreachable(self.broker, error)
            except MeterhouseError as error:
                failure = error
            except Exception as error:  # a bug of ours, raised to the caller of `batches`
                self.failure = error
                return
            now = time.monotonic()
            refused = not isinstance(failure, Unreachable)
            if drain is not None and drain.consuming and not refused:
                has_worked, self.failure = True, None
                if drain.landed or now - begun >= STEADY_SECONDS:
                    pause, working_at = BACK_OFF_SECONDS[0], now
            if self.work.follow:
                if refused and not has_worked:
                    self.failure = failure
            elif (refused if drain is not None else not has_worked) or now - working_at > PATIENCE_SECONDS:
                self.failure = failure
                return
            log.warning("%s; retrying in %.1f s", failure, pause)
            self.work.stop.wait(pause * random.uniform(0.7, 1.0))
            pause = min(pause * 2, BACK_OFF_SECONDS[1])
