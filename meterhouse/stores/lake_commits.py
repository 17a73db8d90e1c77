"""The log of a lake table: its commits, and marks that tell one history of a table from another.

A commit's mark is a hash of the table's id, the version and the commit's text, which never changes. So it is the same
in every copy of the table, and it differs if the table was restored and then written again.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import orjson
import xxhash

from meterhouse import times

SPANS = "meterhouse.spans"
"""Commit metadata key of a replacement: the event hours whose rows it changes; in `rollups`, in any tier.

JSON text: a list of spans, each the number of its first hour since 1970-01-01 UTC and its number of hours.
"""


@dataclass(frozen=True)
class Commit:
    """A commit, as Delta's protocol has it ("Actions").

    Attributes:
        version: the table's version that it made.
        mark: 63-bit hash of the table's id, the version and the text.
        at: when it was made, UTC; None if it does not say.
        info: `commitInfo`.
        added: the actions `add`, one for each file.
        removed: the actions `remove`.
    """

    version: int
    mark: int
    at: datetime | None = None
    info: dict[str, Any] = field(default_factory=dict)
    added: list[dict[str, Any]] = field(default_factory=list)
    removed: list[dict[str, Any]] = field(default_factory=list)

    @property
    def changes_data(self) -> bool:
        """Whether rows came or went, and did not only move to other files."""
        return any(action.get("dataChange", True) for action in (*self.added, *self.removed))

    @property
    def hours(self) -> set[datetime] | None:
        """The event hours that it says it changes; None if it says nothing, see SPANS."""
        if (noted := self.info.get(SPANS)) is None:
            return None
        return {times.of_hour(n) for first, many in json.loads(noted) for n in range(first, first + many)}


def spans_text(hours: Iterable[datetime]) -> str:
    """Event hours as a commit notes them; see SPANS."""
    listed = [[(start - times.EPOCH) // times.HOUR, (end - start) // times.HOUR] for start, end in times.spans(hours)]
    return json.dumps(listed, separators=(",", ":"))


OLDER = "older"
"""The folder, beside that of the tables, of commits that were moved out of their logs; see `lake_log`."""


def path_of(name: str, version: int, folder: str = "tables") -> str:
    """Where the commit is, below the lake's URL; `folder` is that of the tables, or OLDER."""
    return f"{folder}/{name}/_delta_log/{version:020}.json"


def commit_of(text: bytes, table_id: str, version: int) -> Commit | None:
    """The commit with this text; None if the text is empty or cut."""
    actions = parse(text)
    if actions is None:
        return None
    info: dict[str, Any] = next((action["commitInfo"] for action in actions if "commitInfo" in action), {})
    moment = info.get("timestamp")
    return Commit(
        version,
        xxhash.xxh3_64_intdigest(f"{table_id}/{version}/".encode() + text) >> 1,
        datetime.fromtimestamp(moment / 1000, UTC) if isinstance(moment, int | float) else None,
        info,
        [action["add"] for action in actions if "add" in action],
        [action["remove"] for action in actions if "remove" in action],
    )


def parse(text: bytes) -> list[dict[str, Any]] | None:
    """The actions of a commit's text; None if it is empty or cut."""
    try:
        actions = [orjson.loads(line) for line in text.splitlines() if line.strip()]
    except orjson.JSONDecodeError:
        return None
    return actions if actions and all(isinstance(action, dict) for action in actions) else None
