"""What definitions, quality rules and archive policies meant, kept in the warehouse by their fingerprints.

Each partition keeps the fingerprint of what it was made by. So the partitions that another meaning has made are known,
and what has changed since.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from sqlalchemy import Connection, insert, select

from meterhouse import times
from meterhouse.stores.warehouse_tables import meanings


class Meaning(Protocol):
    """What is kept of a meaning; see `definitions.meanings.Meaning`."""

    @property
    def fingerprint(self) -> str:
        """A hash of the text."""

    @property
    def text(self) -> str:
        """All of it, as JSON text."""

    @property
    def files(self) -> Mapping[str, str]:
        """File or setting → hash of what it says."""


@dataclass(frozen=True)
class Kept:
    """A meaning of the past.

    Attributes:
        text: see `Meaning.text`.
        files: file or setting → hash of what it said; empty if a release kept none.
        since: when it was first used, UTC; None if a release did not keep that.
    """

    text: str
    files: dict[str, str]
    since: datetime | None

    def changed_files(self, now: Meaning) -> list[str]:
        """The files and settings that say something else now, or have come or gone."""
        if not self.files:
            return []
        names = self.files.keys() | now.files.keys()
        return sorted(name for name in names if self.files.get(name) != now.files.get(name))


def record(connection: Connection, meaning: Meaning) -> str:
    """Keep a meaning, in the transaction that keeps its fingerprint with a partition; return the fingerprint."""
    known = select(meanings.c.fingerprint).where(meanings.c.fingerprint == meaning.fingerprint)
    if connection.execute(known).first() is None:
        values = {"meaning": meaning.text, "files": json.dumps(dict(meaning.files)), "since": times.now()}
        connection.execute(insert(meanings).values(fingerprint=meaning.fingerprint, **values))
    return meaning.fingerprint


def of(connection: Connection, fingerprint: str) -> Kept | None:
    """The meaning that a fingerprint stands for; None if it is not known."""
    row = connection.execute(select(meanings).where(meanings.c.fingerprint == fingerprint)).first()
    return None if row is None else Kept(row.meaning, json.loads(row.files or "{}"), row.since)


def others(connection: Connection, now: Meaning) -> list[str]:
    """The fingerprints of all other meanings, of whatever."""
    return list(
        connection.execute(select(meanings.c.fingerprint).where(meanings.c.fingerprint != now.fingerprint)).scalars()
    )
