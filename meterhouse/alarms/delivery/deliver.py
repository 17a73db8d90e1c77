"""Delivers alarm notifications from the outbox, with a deadline, and retries with back-off and jitter.

Each notification is sent at least once; the `Idempotency-Key` header identifies repeats. Notifications of one alarm to
one URL are sent in order. Body and headers are Aodh's.
"""

import asyncio
import time
from collections import Counter, deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from sqlalchemy import Row, case, func, select

from meterhouse.alarms.definitions.actions import receiver
from meterhouse.alarms.delivery import attempts, digest
from meterhouse.alarms.delivery.attempts import Attempt, Claim
from meterhouse.alarms.delivery.sending import Sender
from meterhouse.site import Site
from meterhouse.stores import clock
from meterhouse.stores.warehouse_tables import deliveries

START_SECONDS = 10.0
"""For how many seconds a run starts attempts. It ends after these and the deadline of one call."""

START_MARGIN: Final = 1.0
"""For how many seconds more it starts what it has claimed."""

CALLS: Final = 256
"""How many calls there are at the same time."""

CALLS_PER_HOST: Final = 16
"""How many of them one receiver gets."""

CLAIMED_PER_HOST: Final = 128
"""How many calls of one receiver are claimed at the same time, if it answers quickly: few large claims cost less."""

QUICK_SECONDS: Final = 0.5
"""How long a call of a receiver may take that counts as quick."""

CANDIDATES: Final = 5_000
"""From how many notifications that are due a run chooses at a time."""

LIMIT: Final = 20_000
"""How many notifications a run sends at most."""

LOOK_SECONDS: Final = 0.2
"""How often a run looks at most for what has become due, while other calls are on their way."""


@dataclass
class Delivered:
    """What a delivery run did; `pending` notifications still wait."""

    delivered: int = 0
    failed: int = 0
    dead: int = 0
    pending: int = 0
    seconds: float = 0.0


def due(site: Site) -> int:
    """How many notifications could be sent now."""
    with site.warehouse.read() as connection:
        query = select(func.count()).select_from(_due(clock.present(connection)).subquery())
        return int(connection.execute(query).scalar() or 0)


def deliver(site: Site, *, limit: int = LIMIT) -> Delivered:
    """Make one attempt to send each notification that is due, at most `limit` of them.

    One that has become due by the delivery of the one before it is sent too. The run ends in bounded time: within
    START_SECONDS and METERHOUSE_WEBHOOK_TIMEOUT_SECONDS, whatever the receivers do. Receivers take turns, so that none
    delays the others. A failed notification is retried by a later run, until METERHOUSE_WEBHOOK_ATTEMPTS attempts were
    made or METERHOUSE_WEBHOOK_GIVE_UP_SECONDS have passed. Several processes may deliver at the same time: each attempt
    is claimed in the outbox before it is made.
    """
    done = Delivered()
    began = time.monotonic()
    if due(site):
        with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
            figures = runner.run(_Run(site, limit).run())
        done.delivered, done.failed, done.dead = (figures[name] for name in ("delivered", "failed", "dead"))
    with site.warehouse.read() as connection:
        pending = select(func.count()).select_from(deliveries).where(deliveries.c.state == "pending")
        done.pending = int(connection.execute(pending).scalar() or 0)
    done.seconds = time.monotonic() - began
    return done


def _due(present: datetime) -> Any:
    """The notifications that can be sent: those without an earlier one to the same URL that waits."""
    own = deliveries.c
    whom = case((own.receiver == "", own.url), else_=own.receiver).label("receiver")
    # By a window over what waits, not by a search for each row: a database may choose to search the whole table.
    first = func.min(own.sequence).over(partition_by=(own.alarm_id, own.url)).label("first")
    can = attempts.is_due(present).label("can")
    told = (own.delivery_id, own.url, own.sequence, own.alone, own.origin, own.project_id)
    waiting = select(*told, whom, first, can).where(own.state == "pending").subquery()
    found = waiting.c
    return select(*(found[each.name] for each in told), found.receiver).where(found.sequence == found.first, found.can)


def _candidates(site: Site) -> Sequence[Row[Any]]:
    """Notifications that are due: the receivers take turns, each in the order of its notifications."""
    with site.warehouse.read() as connection:
        waiting = _due(clock.present(connection)).subquery()
        turn = func.row_number().over(partition_by=waiting.c.receiver, order_by=waiting.c.sequence)
        return connection.execute(select(waiting).order_by(turn, waiting.c.sequence).limit(CANDIDATES)).all()


@dataclass
class _Run:
    """One run: it looks for what is due, claims it, calls the receivers, and records, all at the same time.

    Attributes:
        site: the site.
        limit: how many notifications it sends at most.
        waiting: by receiver, the calls to make.
        flying: by receiver, how many calls are on their way.
        tried: the notifications that it has taken.
        landed: attempts that are to be recorded.
        found: what was recorded.
        room: by receiver, how many calls may be claimed at the same time.
        gates: by receiver, who may call now.
        unsent: claims that there was no time for.
    """

    site: Site
    limit: int
    waiting: dict[str, deque[list[Row[Any]]]] = field(default_factory=dict)
    flying: Counter[str] = field(default_factory=Counter)
    tried: set[str] = field(default_factory=set)
    landed: list[Attempt] = field(default_factory=list)
    found: Counter[str] = field(default_factory=Counter)
    room: dict[str, int] = field(default_factory=dict)
    gates: dict[str, asyncio.Semaphore] = field(default_factory=dict)
    unsent: list[Claim] = field(default_factory=list)

    async def run(self) -> Counter[str]:
        """Send what is due; return how many notifications were `delivered`, `failed` and `dead`.

        Raises:
            MeterhouseError: the warehouse cannot be used.
        """
        self.last_start = last_start = time.monotonic() + START_SECONDS
        self.sender, self.wake = Sender(self.site.settings), asyncio.Event()
        tasks: set[asyncio.Task[None]] = set()
        next_look, look = 0.0, True
        with ThreadPoolExecutor(max_workers=2) as warehouse:  # whose calls block

            async def blocking(function: Any, *given: Any) -> Any:
                return await asyncio.get_running_loop().run_in_executor(warehouse, function, *given)

            try:
                while True:
                    self.wake.clear()
                    starting = time.monotonic() <= last_start and len(self.tried) < self.limit
                    calls = self._take() if starting else []
                    if calls:
                        claims = await blocking(attempts.claim, self.site, [r.delivery_id for c in calls for r in c])
                        for call in self._claimed(calls, claims):
                            task = asyncio.create_task(self._call(call))
                            tasks.add(task)
                            task.add_done_callback(tasks.discard)
                    if self.landed:
                        landed, self.landed = self.landed, []
                        figures = await blocking(attempts.record, self.site, landed)
                        self.found.update(figures)
                        look = look or bool({"delivered", "dead"} & set(figures))
                        continue
                    if calls:
                        continue
                    if starting and look and (not self.flying.total() or time.monotonic() > next_look):
                        began, look = time.monotonic(), False
                        self._queue(await blocking(_candidates, self.site))
                        # With many that wait, looking takes long: at most a tenth of the time is spent on it.
                        next_look = time.monotonic() + max(LOOK_SECONDS, 10 * (time.monotonic() - began))
                        continue
                    if not self.flying.total():
                        if self.unsent:
                            await blocking(attempts.release, self.site, self.unsent)
                        return self.found
                    try:
                        async with asyncio.timeout(LOOK_SECONDS if look else None):
                            await self.wake.wait()
                    except TimeoutError:
                        pass
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    def _queue(self, candidates: Sequence[Row[Any]]) -> None:
        """Make the calls that wait of what is due now."""
        self.waiting = {}
        least = self.site.settings.webhook_digest
        together: dict[tuple[str, str, str], list[Row[Any]]] = {}  # what is another's has its own secret and targets
        for row in candidates:
            if row.delivery_id in self.tried:
                continue
            if least and digest.can_be(row):
                together.setdefault((row.url, row.origin, row.project_id), []).append(row)
            else:
                self.waiting.setdefault(receiver(row.url), deque()).append([row])
        for rows in together.values():
            self.waiting.setdefault(receiver(rows[0].url), deque()).extend(digest.calls(rows, least))

    def _take(self) -> list[list[Row[Any]]]:
        """The calls to make next, within the limits; receivers take turns."""
        taken: list[list[Row[Any]]] = []
        room = CALLS - self.flying.total()
        moved = True
        while moved:
            moved = False
            for whom, calls in self.waiting.items():
                if not calls or room <= 0 or self.flying[whom] >= self.room.get(whom, CALLS_PER_HOST):
                    continue
                left = self.limit - len(self.tried)
                if left <= 0:
                    break
                call = calls.popleft()[:left]
                self.tried.update(row.delivery_id for row in call)
                self.flying[whom] += 1
                taken.append(call)
                room, moved = room - 1, True
        return taken

    def _claimed(self, calls: list[list[Row[Any]]], claims: list[Claim]) -> list[tuple[str, list[Claim]]]:
        """The calls to make, with their receivers, without what other processes have taken."""
        ours = {claim.row.delivery_id: claim for claim in claims}
        made = []
        for call in calls:
            whom = receiver(call[0].url)
            parts = digest.bounded([ours[row.delivery_id] for row in call if row.delivery_id in ours])
            self.flying[whom] += len(parts) - 1
            made += [(whom, part) for part in parts]
        return made

    async def _call(self, call: tuple[str, list[Claim]]) -> None:
        whom, claims = call
        try:
            async with self.gates.setdefault(whom, asyncio.Semaphore(CALLS_PER_HOST)):
                now = time.monotonic()
                if now > self.last_start + START_MARGIN:
                    self.unsent += claims
                elif now < claims[0].until:  # else: paused, and another process may have sent it
                    made = await self.sender.send(claims)
                    self.landed += made
                    quick = made[0].answer.error is None and time.monotonic() - now < QUICK_SECONDS
                    room = self.room.get(whom, CALLS_PER_HOST)
                    self.room[whom] = min(CLAIMED_PER_HOST, room + 1) if quick else CALLS_PER_HOST
        finally:
            self.flying[whom] -= 1
            self.wake.set()
