"""The loop of a member: claims what is due while it has free places, and ends cleanly when it is asked to."""

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime
from functools import partial
from typing import Final

from sqlalchemy.exc import IntegrityError

from meterhouse.errors import MeterhouseError, Unavailable
from meterhouse.polling import record
from meterhouse.polling.member.clocks import Clock
from meterhouse.polling.member.files import Files
from meterhouse.polling.member.lander import Lander
from meterhouse.polling.member.reports import Done, Report
from meterhouse.polling.member.results import Ready
from meterhouse.polling.member.sinks import sink
from meterhouse.polling.member.sizes import Sizes
from meterhouse.polling.member.troubles import Trouble
from meterhouse.polling.member.work import given_up, poll
from meterhouse.polling.member.workers import Workers
from meterhouse.polling.record import Claimed, Failed
from meterhouse.polling.record.settling import Outcome
from meterhouse.site import Site
from meterhouse.stores.leases import this_process

LOOK_SECONDS: Final = (1.0, 2.0)
"""How often a member looks for tasks of others that were killed or have released them: the first time if anything is
due within QUIET_SECONDS, otherwise the second."""

QUIET_SECONDS: Final = 10.0

STOP_SECONDS: Final = 0.2
"""How often a member that waits checks whether it should end."""

CLAIM_SECONDS: Final = 0.02
"""Shortest time between two claims, so that what becomes free meanwhile is claimed together."""

SYNC_SECONDS: Final = 60.0
"""How often a member looks whether others know sources that it does not."""

END_SECONDS: Final = 3.0
"""How long a member that ends waits for what is being polled. It releases the rest, which others poll at once."""

LAND_SECONDS: Final = 10.0
"""How long it waits for what is being landed and recorded. Others find in the lake what it does not record."""

log = logging.getLogger(__name__)


class Loop:
    """One member. Use it once, from the main thread.

    Args:
        site: the site.
        stop: says whether it should end.

    Raises:
        MeterhouseError: the definition files cannot be used.
    """

    def __init__(self, site: Site, stop: Callable[[], bool]) -> None:
        settings = site.settings
        self._settings, self._warehouse, self._stop = settings, site.warehouse, stop
        self._name, self._namespaces = this_process(), frozenset(settings.poll_namespaces.split(","))
        self._clock = Clock()
        self._files = Files(settings, self._namespaces, self._clock)
        self._unknown: frozenset[tuple[str, str]] = frozenset()
        self._synced_at = 0.0
        self._sizes = Sizes(self._warehouse)
        self._workers = Workers(settings.poll_concurrency)
        self._wake = threading.Condition()
        self._woken = False
        self._running: dict[int, Claimed] = {}
        self._ended = threading.Event()
        self._trouble = Trouble("asking the warehouse for tasks")
        self._away_since: datetime | None = None
        self._due_at = self._overdue_at = 0.0  # by the steady clock
        self._lander = Lander(self._name, sink(site), self._renew, self._settle, self._is_polling, self._recorded)
        self._report = Report()

    @property
    def _member(self) -> record.Member:
        settings = self._settings
        return record.Member(
            self._name, self._namespaces, settings.poll_lease_seconds, self._files.digest, self._clock.ahead
        )

    def run(self, *, follow: bool) -> Done:
        """Poll what is due: with `follow` until `stop` says so, otherwise until nothing is due and all is recorded.

        Raises:
            MeterhouseError: without `follow`: the warehouse does not answer.
        """
        log.info(
            "member %s: %d pollsters of sources, %d places, lease %g s",
            *(self._name, len(self._files.schedules), self._settings.poll_concurrency),
            self._settings.poll_lease_seconds,
        )
        self._lander.start()
        heart = threading.Thread(target=self._beat, daemon=True, name="heartbeat")
        heart.start()
        try:
            while not self._stop():
                pause = self._turn(follow)
                if pause is None:
                    break
                self._sleep(pause)
        finally:
            self._end()
            self._ended.set()
            self._workers.close()
            heart.join(STOP_SECONDS)
            self._files.asking.close()
        return self._report.done

    # -- the main thread ------------------------------------------------------------------------------------

    def _turn(self, follow: bool) -> float | None:
        """Claim and start what is due. Return how long there will be nothing else to do; None if that is for ever."""
        if (pause := self._trouble.waits()) > 0:
            return pause
        asked_at = self._clock.now()
        try:
            self._sync()
            self._make_due()
            claims = self._claim()
            for claim in claims:
                self._start(claim)
            closed = self._close_overdue()
        except Unavailable as error:
            if not follow:
                raise
            self._away_since = self._away_since or asked_at
            self._trouble.began(error)
            return self._trouble.waits()
        except IntegrityError as error:  # another member has written the same at the same time
            self._trouble.began(error)
            return self._trouble.waits()
        self._trouble.ended()
        if claims:
            return CLAIM_SECONDS
        if not (follow or closed or self._is_polling() or self._lander.claims()):
            return None
        return max(self._due_at - time.monotonic(), CLAIM_SECONDS)

    def _make_due(self) -> None:
        """Let the record have the tasks of slots that have begun, once a second or when it is time for them."""
        if time.monotonic() < self._due_at:
            return
        away = None if self._away_since is None else (self._away_since, self._clock.now())
        due_at = record.make_due(self._warehouse, away=away)
        self._away_since = None
        left = QUIET_SECONDS if due_at is None else (due_at - self._clock.now()).total_seconds()
        look = LOOK_SECONDS[left >= QUIET_SECONDS]
        self._due_at = time.monotonic() + min(max(left, CLAIM_SECONDS), look)

    def _close_overdue(self) -> int:
        """Give up tasks that it is too late to poll, and that members had which were lost; return their number."""
        if time.monotonic() < self._overdue_at:
            return 0
        self._overdue_at = time.monotonic() + self._settings.poll_lease_seconds / 3
        overdue = record.overdue(self._warehouse, self._member)
        given = [given_up(claim, claim.error or "its member died", self._files.asking, self._name) for claim in overdue]
        self._lander.hand_over(given)
        return len(given)

    def _sync(self) -> None:
        """Let the record know this member and what it polls: at first, after changes of the files, and now and then."""
        changed = self._files.changed() or not self._synced_at
        if not changed and time.monotonic() - self._synced_at < SYNC_SECONDS:
            return
        if not self._synced_at:
            with self._warehouse.begin() as connection:
                self._clock.compare(connection)
        if changed:
            record.join(self._warehouse, self._member)
        scheduled = list(self._files.schedules.values())
        synced = record.sync(self._warehouse, scheduled, self._member, read_now=changed, doubtful=self._files.doubtful)
        self._unknown = synced.unknown
        self._synced_at = time.monotonic()

    def _claim(self) -> list[Claimed]:
        """Claim as many tasks as there are free places; none while samples cannot be landed.

        A source may have half of the places, so that one that hangs leaves places to the others.
        """
        with self._wake:
            taken = Counter(claim.slot.source for claim in self._running.values())
        places = self._settings.poll_concurrency
        free = places - taken.total()
        if free <= 0 or self._lander.fault:
            return []
        half = max(1, places // 2)
        return record.claim(self._warehouse, self._member, free, per_source=half, taken=taken, without=self._unknown)

    def _start(self, claim: Claimed) -> None:
        with self._wake:
            self._running[claim.task_id] = claim
        self._workers.start(partial(self._poll, claim))

    def _sleep(self, seconds: float) -> None:
        """Wait until a place becomes free, something is recorded, or the member should end."""
        until = time.monotonic() + seconds
        with self._wake:
            while not (self._woken or self._stop()) and (left := until - time.monotonic()) > 0:
                self._wake.wait(min(left, STOP_SECONDS))
            woken, self._woken = self._woken, False
        if woken:
            time.sleep(CLAIM_SECONDS)  # what else becomes free is claimed together

    def _end(self) -> None:
        """Finish what is nearly done, release the rest, land, record, and leave."""
        with self._wake:
            self._wake.wait_for(lambda: not self._running, END_SECONDS)
            left, self._running = list(self._running.values()), {}
        try:
            if left:
                log.info("%d tasks are released: others may poll them at once", len(left))
                record.release(self._warehouse, self._member, left)
            self._lander.settle(LAND_SECONDS)
            record.leave(self._warehouse, self._member)
        except MeterhouseError as error:
            log.warning("what this member has claimed is taken over when its lease ends: %s", error)

    # -- the other threads ----------------------------------------------------------------------------------

    def _poll(self, claim: Claimed) -> None:
        """Poll a task, in one of the places."""
        scheduled = self._files.schedules.get((claim.slot.source, claim.slot.pollster))
        if scheduled is None:  # the files have changed since it was claimed
            result: Ready | Failed = Failed(claim, "this member does not know the pollster any more")
        else:
            result = poll(claim, scheduled, self._files.asking, self._name)
        with self._wake:
            if self._running.pop(claim.task_id, None) is not None:  # else it was released, or lost
                self._lander.hand_over([result])
            self._woken = True
            self._wake.notify_all()
        if scheduled is not None and isinstance(result, Ready):
            self._sizes.look(claim, scheduled, self._files.asking)

    def _is_polling(self) -> bool:
        return bool(self._running)

    def _renew(self, claims: Sequence[Claimed]) -> set[int]:
        return record.renew(self._warehouse, self._member, claims)

    def _settle(self, outcomes: Sequence[Outcome]) -> set[int]:
        return record.settle(self._warehouse, self._member, outcomes)

    def _recorded(self, outcomes: Sequence[Outcome]) -> None:
        self._report.add(outcomes)
        with self._wake:  # rests can be claimed now
            self._woken = True
            self._wake.notify_all()

    def _beat(self) -> None:
        """Show that the member is alive, and renew its leases, until it ends."""
        trouble = Trouble("renewing leases")
        while not self._ended.wait(self._settings.poll_lease_seconds / 3):
            with self._wake:
                claims = list(self._running.values())
            try:
                with self._warehouse.begin() as connection:
                    self._clock.compare(connection)
                lost = record.beat(self._warehouse, self._member, [*claims, *self._lander.claims()])
            except MeterhouseError as error:
                trouble.began(error)
                continue
            trouble.ended()
            self._lose(lost)

    def _lose(self, lost: set[int]) -> None:
        """Forget running tasks that other members have taken over: what comes of them is dropped."""
        with self._wake:
            gone = [claim for task_id in lost if (claim := self._running.pop(task_id, None)) is not None]
        for claim in gone:
            log.warning("%s: another member has taken it over while it was polled here", claim)
