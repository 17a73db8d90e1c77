"""Erases again: after a restore, the ids of erased users are found by their hashes in what came back."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
from sqlalchemy import Text, select

from meterhouse import times
from meterhouse.erasure.erase import Found, erase
from meterhouse.erasure.lake_rows import OF_RESOURCES
from meterhouse.erasure.recorded import Erasure, record, recorded
from meterhouse.erasure.warehouse_rows import OTHERS
from meterhouse.errors import MeterhouseError, UsageError
from meterhouse.personal_data import ErasedUser, ErasedUsers, digest
from meterhouse.progress import Progress, no_progress
from meterhouse.site import Site
from meterhouse.stores import lake_erasures
from meterhouse.stores.lake_faults import retried
from meterhouse.stores.warehouse_tables import metadata

USER = ("pseudonym", "digest", "salt", "shape")
"""The fields by which an erased user is known."""

ROWS_AT_ONCE = 10_000

TEXTS: Mapping[str, tuple[str, ...]] = {
    "notifications": ("publisher_id", "body"),
    "dead_letters": ("queue", "body", "headers", "reason"),
    "events": ("raw", "traits"),
    "samples": ("user_id", "resource_id"),
    "quarantine": ("user_id", "resource_id"),
    "derived": ("user_id", "resource_id"),
    **OF_RESOURCES,
}
"""Table of the lake → its columns that may have the id of a user."""


def read(path: Path) -> list[Erasure]:
    """The erasures of a list, as `meterhouse erase list --json` prints it.

    Raises:
        UsageError: it cannot be read, or a line is not one of an erasure.
    """
    try:
        lines = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"the list cannot be read: {error}", where=str(path)) from None
    found = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row: Any = json.loads(line)
            user = ErasedUser(*(str(row[name]) for name in USER))
            digest("", user.salt)
            when = times.parse(row["recorded_at"])
            found.append(Erasure(0, user, str(row["reason"]), str(row["author"]), when))
        except (ValueError, KeyError, TypeError) as error:
            raise UsageError(
                f"this is not the line of an erasure: {error!r}",
                where=f"{path}:{number}",
                hint="Give what `meterhouse erase list --json` has printed",
            ) from None
    return found


def again(site: Site, listed: Sequence[Erasure] = (), *, progress: Progress = no_progress) -> list[Found]:
    """Erase users again of whom something is there: those that the warehouse, the lake or a list knows.

    What is missing in the warehouse's record is added. Further texts, such as names, are not known by now.

    Returns:
        What was erased, by the users that were found.

    Raises:
        MeterhouseError: as of `erase`.
    """
    for one in (*listed, *_of_lake(site)):
        record(site, one)
    known = recorded(site)
    if not known:
        return []
    lake_erasures.publish(site.lake, [each.user for each in known])
    users = ErasedUsers([each.user for each in known])
    by_pseudonym = {each.user.pseudonym: each for each in known}
    found = sorted(search(site, users).items())
    return [erase(site, by_pseudonym[pseudonym], user_id, progress=progress) for user_id, pseudonym in found]


def _of_lake(site: Site) -> list[Erasure]:
    """The users that the lake's newest list has."""
    number = max(lake_erasures.newest(site.lake, table) for table in lake_erasures.RAISED)
    if not number:
        return []
    try:
        users = lake_erasures.read(site.lake, number).users
    except MeterhouseError:  # it is written again
        return []
    return [Erasure(0, user, "known to the lake's list only", "unknown", times.now()) for user in users]


@retried
def search(site: Site, users: ErasedUsers) -> dict[str, str]:
    """The ids of erased users that are somewhere in the lake or the warehouse, and their pseudonyms."""
    found: dict[str, str] = {}
    for text in _in_warehouse(site):
        found |= users.found(text)
    for text in _in_lake(site):
        found |= users.found(text)
    return found


def _in_warehouse(site: Site) -> Iterator[str]:
    with site.warehouse.read() as connection:
        for table in metadata.sorted_tables:
            columns = [column for column in table.columns if isinstance(column.type, Text)]
            if not columns or table.name in OTHERS:
                continue
            for row in connection.execute(select(*columns)):
                yield " ".join(text for text in row if text)


def _in_lake(site: Site) -> Iterator[str]:
    lake = site.lake
    for name, columns in TEXTS.items():
        for path in lake.actions(name)["path"].to_pylist():
            for rows in lake.pieces_of(name, path, ROWS_AT_ONCE, columns):
                for column in columns:
                    yield from _texts(rows[column])


def _texts(column: pa.ChunkedArray) -> Iterator[str]:
    if pa.types.is_list(column.type):
        for traits in column.to_pylist():
            yield " ".join(trait["value"] or "" for trait in traits or ())
        return
    for value in column.unique().to_pylist():
        if value is not None:
            yield value.decode("utf-8", "replace") if isinstance(value, bytes) else value
