"""The list of erased users in the lake, for those who write what comes: without the warehouse, and at no cost if nobody
was erased.

The tables that messages are landed in record the number of the newest list as an application transaction. Whoever
appends to them sees it in the version that the commit stands on. The commit that records a list also raises the
transaction by which landings notice each other, so one that began before must begin anew.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

from meterhouse.errors import Conflict, MeterhouseError
from meterhouse.personal_data import ErasedUser, ErasedUsers

if TYPE_CHECKING:
    from meterhouse.stores.lake import Lake

APP: Final = "erasures"
"""The application transaction with the number of the newest list."""

RAISED: Final = {"notifications": "landing", "dead_letters": "dead_letters"}
"""Table → the application transaction that each of its writers raises by one."""

PREFIX: Final = "erased"
"""How the names of files start that an erasure writes. What a killed one leaves are no rows that the table lacks."""

NOBODY: Final = ErasedUsers(())

ATTEMPTS: Final = 100


def path_of(number: int) -> str:
    """Where a list is, below the lake's URL."""
    return f"erasures/{number}.json"


def newest(lake: "Lake", table: str = "notifications") -> int:
    """The number of the newest list that a table knows; 0 if nobody was erased."""
    return lake.transaction(table, APP) or 0


def erased_users(lake: "Lake", table: str = "notifications") -> ErasedUsers | None:
    """The users that were erased up to the version of a table that is open; None if nobody was.

    Raises:
        MeterhouseError: the list cannot be read: nothing may be written that it may concern.
    """
    number = newest(lake, table)
    return read(lake, number) if number else None


def read(lake: "Lake", number: int) -> ErasedUsers:
    """A list, which is read once.

    Raises:
        MeterhouseError: it cannot be read.
    """
    known = lake.erased.get(number)
    if known is None:
        try:
            listed = json.loads(lake.get(path_of(number)))["users"]
        except (OSError, ValueError, KeyError) as error:
            raise MeterhouseError(
                f"the list of erased users cannot be read: {error}",
                where=f"{lake.url}/{path_of(number)}",
                hint="Restore it from a backup, or run `meterhouse erase again`, which writes it",
            ) from error
        known = ErasedUsers([ErasedUser(**user) for user in listed])
        lake.erased.clear()
        lake.erased[number] = known
    return known


def publish(lake: "Lake", users: Sequence[ErasedUser]) -> str:
    """Write a list of all erased users, and make all who land messages from now on read it; return its URI.

    Raises:
        Conflict: other processes keep committing first.
        MeterhouseError: the lake cannot be written.
    """
    number = max(newest(lake, table) for table in RAISED) + 1
    written = lake.put(path_of(number), json.dumps({"users": [asdict(user) for user in users]}).encode())
    for table, app in RAISED.items():
        for attempt in range(1, ATTEMPTS + 1):
            before = lake.transaction(table, app) or 0
            try:
                lake.commit(table, [], 0, transactions={app: before + 1}, after={app: before}, beside={APP: number})
                break
            except Conflict:
                if attempt == ATTEMPTS:
                    raise
    return written
