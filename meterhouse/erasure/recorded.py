"""Who was erased, when, by whom and why: the records of the warehouse."""

import json
import re
import secrets
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import Row, func, insert, select, update

from meterhouse import times
from meterhouse.errors import UnknownName, UsageError
from meterhouse.personal_data import ErasedUser, digest, shape
from meterhouse.site import Site
from meterhouse.stores.warehouse_tables import erasures

LONGEST_TEXT = 4_096
"""Maximum length of a reason, and of an author's name, in characters."""

SHORTEST_TEXT = 3
"""Minimum length of a text that is to be erased, in characters: shorter ones are in too many texts."""

LONGEST_NUMBER = 20
"""Texts of at least so many characters are no numbers."""

_NUMBER = re.compile(r"[-+]?[0-9.]+(?:[eE][-+]?[0-9]+)?|true|false|null|NaN|Infinity")


@dataclass(frozen=True)
class Erasure:
    """A record; for its columns, see the warehouse's table `erasures`.

    Attributes:
        erasure_id: from 1.
        user: the pseudonym, and the salted hash of the id.
        reason: why.
        author: who.
        recorded_at: when the first run began, UTC.
        began_at: when the run that has not ended yet, or the last one, began to replace rows; None if none did.
        ended_at: when the last run ended; None while one runs, or if it was killed.
        versions: by lake table, its version when the run began that has not ended yet.
        rows: by table, how many rows were changed.
    """

    erasure_id: int
    user: ErasedUser
    reason: str
    author: str
    recorded_at: datetime
    began_at: datetime | None = None
    ended_at: datetime | None = None
    versions: Mapping[str, int] | None = None
    rows: Mapping[str, int] = field(default_factory=dict)


def recorded(site: Site) -> list[Erasure]:
    """All erasures, the oldest first."""
    with site.warehouse.read() as connection:
        return [_of(row) for row in connection.execute(select(erasures).order_by(erasures.c.erasure_id))]


def find(site: Site, erasure_id: int) -> Erasure:
    """An erasure by its id.

    Raises:
        UnknownName: there is none.
    """
    known = recorded(site)
    for each in known:
        if each.erasure_id == erasure_id:
            return each
    raise UnknownName("erasure", str(erasure_id), [str(each.erasure_id) for each in known])


def find_user(known: Sequence[Erasure], user_id: str) -> Erasure | None:
    """The erasure of a user, by the hash of the id."""
    return next((each for each in known if digest(user_id, each.user.salt) == each.user.digest), None)


def checked(text: str) -> str:
    """A text that is to be erased, such as an id.

    Raises:
        UsageError: it is too short, or a number: it would be found in what has nothing to do with the user.
    """
    if len(text.strip()) < SHORTEST_TEXT:
        raise UsageError(f"'{text}' is too short to be told from other texts", hint="Give a longer text")
    if len(text) < LONGEST_NUMBER and _NUMBER.fullmatch(text):
        raise UsageError(f"'{text}' cannot be told from other numbers and words of JSON", hint="Give a longer text")
    return text


def proposed(site: Site, user_id: str, *, reason: str, author: str) -> Erasure:
    """The erasure of a user: the one that is recorded, or a new one that is not recorded yet.

    Raises:
        UsageError: the id cannot be told from other texts, or is the pseudonym of an erased user, or there is no reason
            or author.
    """
    check(reason=reason, author=author)
    checked(user_id)
    known = recorded(site)
    if (found := find_user(known, user_id)) is not None:
        return found
    if any(each.user.pseudonym == user_id for each in known):
        raise UsageError(f"'{user_id}' is the pseudonym of a user who was erased")
    salt = known[0].user.salt if known else secrets.token_hex(16)  # one salt: each word is hashed once
    user = ErasedUser(f"erased-{uuid.uuid4().hex}", digest(user_id, salt), salt, shape(user_id))
    number = max((each.erasure_id for each in known), default=0) + 1
    return Erasure(number, user, reason, author, times.now())


def check(**given: str) -> None:
    """Refuse texts that are empty or too long.

    Raises:
        UsageError: one is.
    """
    for name, text in given.items():
        if not text.strip():
            raise UsageError(f"an erasure needs its {name}", where=f"--{name}")
        if len(text) > LONGEST_TEXT:
            raise UsageError(f"the {name} has {len(text):,} characters", hint=f"At most {LONGEST_TEXT:,}")


def record(site: Site, one: Erasure) -> Erasure:
    """Record an erasure, unless its user is recorded already; return the record."""
    with site.warehouse.begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql("LOCK TABLE erasures IN SHARE ROW EXCLUSIVE MODE")
        same = erasures.c.digest == one.user.digest, erasures.c.salt == one.user.salt
        row = connection.execute(select(erasures).where(*same)).first()
        if row is not None:
            return _of(row)
        number = (connection.execute(select(func.max(erasures.c.erasure_id))).scalar() or 0) + 1
        values = {
            **vars(one.user),
            "erasure_id": number,
            "reason": one.reason,
            "author": one.author,
            "recorded_at": one.recorded_at,
            "rows": json.dumps(dict(one.rows)),
        }
        connection.execute(insert(erasures).values(**values))
        return _of(connection.execute(select(erasures).where(erasures.c.erasure_id == number)).one())


def change(site: Site, one: Erasure, **values: object) -> None:
    """Change columns of a record; mappings become JSON."""
    texts = {name: json.dumps(value) if isinstance(value, dict) else value for name, value in values.items()}
    with site.warehouse.begin() as connection:
        connection.execute(update(erasures).where(erasures.c.erasure_id == one.erasure_id).values(**texts))


def _of(row: Row[Any]) -> Erasure:
    return Erasure(
        row.erasure_id,
        ErasedUser(row.pseudonym, row.digest, row.salt, row.shape),
        row.reason,
        row.author,
        row.recorded_at,
        row.began_at,
        row.ended_at,
        None if row.versions is None else json.loads(row.versions),
        json.loads(row.rows),
    )
