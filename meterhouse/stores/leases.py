"""Leases: who may run a step. Each taking has a generation, which every write that rests on the lease checks.

A process can be paused for longer than its lease: by a signal, by a debugger, or with its whole machine. Then another
process takes the lease over. So holding a lease is not enough to write: the transaction that writes checks the
generation, and locks the lease's row until it ends.
"""

import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Protocol

from sqlalchemy import ColumnElement, Connection, Row, delete, insert, select, text, update
from sqlalchemy.exc import IntegrityError

from meterhouse.errors import AlreadyRunning, Conflict, MeterhouseError
from meterhouse.stores import clock
from meterhouse.stores.warehouse_tables import leases

FREE = ""
"""The holder of a lease that nobody holds. Its row stays, so that a generation never comes again."""


class Transactions(Protocol):
    """The database that keeps the leases.

    Attributes:
        lease_seconds: how long the lease of a process that does not renew it is still valid.
    """

    lease_seconds: float

    def begin(self) -> AbstractContextManager[Connection]:
        """A writing transaction."""


class LeaseLost(Conflict):
    """This process was paused for longer than its lease, and another one took it over. Nothing was written."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"step '{name}' was paused for longer than its lease, and another process has taken it over",
            hint="Nothing was written. The other process does the work",
        )


@dataclass
class Lease:
    """A lease that this process has taken.

    Attributes:
        database: the database that keeps it.
        name: the step.
        holder: host, pid, start time of the process and a random part; no two takings have the same.
        generation: higher than that of every taking before.
        taken_over: whether the holder before did not release it. It may be paused, and continue.
    """

    database: Transactions
    name: str
    holder: str
    generation: int
    taken_over: bool = False

    def check(self, connection: Connection) -> None:
        """Make sure that the lease is still held; no other process can take it before this transaction ends.

        Args:
            connection: a writing transaction of the warehouse.

        Raises:
            LeaseLost: another process has taken it over. The transaction must not be committed.
        """
        if connection.dialect.name == "postgresql":  # SQLite's writing transactions lock the whole file already
            # A process that is paused in its transaction must not keep the row from the next holder.
            pause = int(self.database.lease_seconds * 1000)
            connection.execute(text(f"SET LOCAL idle_in_transaction_session_timeout = {pause}"))
        row = connection.execute(select(leases).where(leases.c.name == self.name).with_for_update()).first()
        if row is None or (row.holder, row.generation) != (self.holder, self.generation):
            raise LeaseLost(self.name)

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        """A writing transaction of the warehouse that rests on the lease.

        Raises:
            LeaseLost: another process has taken it over; nothing is written.
        """
        with self.database.begin() as connection:
            self.check(connection)
            yield connection

    def raise_above(self, generation: int) -> None:
        """Raise this taking's generation above one that was found elsewhere.

        The lake may know a higher generation of a lease that is still held here: after the warehouse was restored from
        a backup, or deleted.

        Raises:
            LeaseLost: another process has taken it over.
        """
        with self.begin() as connection:
            raised = max(generation, self.generation) + 1
            connection.execute(update(leases).where(leases.c.name == self.name).values(generation=raised))
        self.generation = raised

    def renew(self) -> bool:
        """Hold it for `lease_seconds` from now on; return False for a lease that was lost, which stays lost."""
        with self.database.begin() as connection:
            renewed = update(leases).where(*self._ours()).values(expires_at=self._expiry(connection))
            return connection.execute(renewed).rowcount == 1

    def release(self) -> None:
        """Let others take it. A lease that was lost is left to its holder."""
        with self.database.begin() as connection:
            connection.execute(
                update(leases).where(*self._ours()).values(holder=FREE, expires_at=clock.present(connection))
            )

    def remove(self) -> None:
        """Delete the lease, whose name is never used again. A lease that was lost is left to its holder."""
        with self.database.begin() as connection:
            connection.execute(delete(leases).where(*self._ours()))

    def _ours(self) -> tuple[ColumnElement[bool], ...]:
        return leases.c.name == self.name, leases.c.holder == self.holder

    def _expiry(self, connection: Connection) -> datetime:
        return clock.present(connection) + timedelta(seconds=self.database.lease_seconds)


@dataclass(frozen=True)
class Held:
    """What a lease shows of its holder.

    Attributes:
        holder: host, pid, start time of the process and a random part; empty if nobody holds it.
        died: whether the holder is a process of this machine that has ended.
        silent: whether it was not renewed in time.
    """

    holder: str
    died: bool
    silent: bool


@contextmanager
def hold(database: Transactions, name: str, wait_seconds: float = 0.0) -> Iterator[Lease]:
    """Hold a step's lease while the block runs; a thread renews it.

    The lease of a process that died on this machine is taken over at once, that of one on another machine when it runs
    out.

    Raises:
        AlreadyRunning: another live process still holds it after `wait_seconds`.
    """
    deadline = time.monotonic() + wait_seconds
    while isinstance(taken := take(database, name, this_process()), str) and time.monotonic() < deadline:
        time.sleep(0.1)
    if isinstance(taken, str):
        raise AlreadyRunning(
            f"step '{name}' is already running ({taken})", hint="That process will finish it; or try again later"
        )
    done = threading.Event()

    def renew() -> None:
        while not done.wait(database.lease_seconds / 3):
            with suppress(MeterhouseError):  # an outage must not end the renewals: the work itself will report it
                taken.renew()

    renewer = threading.Thread(target=renew, daemon=True, name=f"lease-{name}")
    renewer.start()
    try:
        yield taken
    finally:
        done.set()
        renewer.join()
        taken.release()


def take(database: Transactions, name: str, holder: str) -> Lease | str:
    """Take a lease that is free; return the name of its holder if it is not."""
    try:
        with database.begin() as connection:
            present = clock.present(connection)
            values = {
                "holder": holder,
                "expires_at": present + timedelta(seconds=database.lease_seconds),
                "seconds": database.lease_seconds,
            }
            row = connection.execute(select(leases).where(leases.c.name == name)).first()
            if row is None:
                connection.execute(insert(leases).values(name=name, generation=1, **values))
                return Lease(database, name, holder, 1)
            if _is_held(row, present):
                longest = present + timedelta(seconds=row.seconds)
                if row.expires_at > longest:  # the clock was set back since; a live holder renews it
                    connection.execute(update(leases).where(*_unchanged(row)).values(expires_at=longest))
                return str(row.holder)
            generation = row.generation + 1
            if connection.execute(
                update(leases).where(*_unchanged(row)).values(generation=generation, **values)
            ).rowcount:
                return Lease(database, name, holder, generation, taken_over=row.holder != FREE)
    except IntegrityError:
        pass
    return "another process has just taken it"


def held(connection: Connection, prefix: str) -> dict[str, Held]:
    """All leases whose names start with a prefix, by the rest of their names."""
    present = clock.present(connection)
    found = {}
    for row in connection.execute(select(leases).where(leases.c.name.startswith(prefix, autoescape=True))):
        # A lease that ends later than a renewal could make it is from before the clock was set back.
        in_time = present < row.expires_at <= present + timedelta(seconds=row.seconds)
        found[row.name.removeprefix(prefix)] = Held(row.holder, died_here(row.holder), not in_time)
    return found


def holder(connection: Connection, *names: str) -> str:
    """Who holds one of these leases now; empty text if nobody does."""
    present = clock.present(connection)
    rows = connection.execute(select(leases).where(leases.c.name.in_(names))).all()
    return next((str(row.holder) for row in rows if _is_held(row, present)), FREE)


def this_process() -> str:
    """A new holder's name for this process."""
    return f"{socket.gethostname()}:{os.getpid()}:{boot_time(os.getpid())}:{uuid.uuid4().hex[:8]}"


def _is_held(row: Row[Any], present: datetime) -> bool:
    return row.holder != FREE and row.expires_at > present and not died_here(row.holder)


def _unchanged(row: Row[Any]) -> tuple[ColumnElement[bool], ...]:
    return (
        leases.c.name == row.name,
        leases.c.holder == row.holder,
        leases.c.generation == row.generation,
        leases.c.expires_at == row.expires_at,
    )


def boot_time(pid: int) -> str:
    """The kernel's start time of a process, which tells it from a later one with the same pid; empty if unknown."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return ""


def died_here(holder: str) -> bool:
    """Whether the holder was a process of this machine that has ended."""
    try:
        host, pid, started, _ = holder.rsplit(":", 3)
    except ValueError:
        return False
    return (
        host == socket.gethostname()
        and (not started or boot_time(int(pid)) != started)
        and boot_time(os.getpid()) != ""
    )
