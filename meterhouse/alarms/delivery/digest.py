"""Digests: one call that tells many notifications to one URL, when many fire together.

The body has a list of the notifications, each as it would be sent alone, with its own idempotency key. The order of the
list is that of the transitions. Every notification has its own row in the ledger, as if it were sent alone.
"""

import json
import uuid
from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import Row

from meterhouse.alarms.definitions.actions import is_signal
from meterhouse.alarms.delivery.attempts import Claim

MOST: Final = 500
"""How many notifications a digest has at most."""

MOST_BYTES: Final = 1 << 20
"""How many bytes of notifications a digest has at most."""

_NAMESPACE: Final = uuid.UUID("1b671a64-40d5-491e-99b0-da01ff1f3341")


def can_be(row: Row[Any]) -> bool:
    """Whether a notification can be part of a digest: Heat takes each signal for one, and some receivers take none."""
    return not row.alone and not row.url.startswith(("log:", "test:")) and not is_signal(row.url)


def calls(rows: Sequence[Row[Any]], least: int) -> list[list[Row[Any]]]:
    """The notifications of one owner to one URL, by the call that tells them.

    Args:
        rows: notifications that are due, in the order of the outbox.
        least: how many make a digest; 0: each has its own call.
    """
    if not least or len(rows) < max(least, 2):
        return [[row] for row in rows]
    return [list(rows[start : start + MOST]) for start in range(0, len(rows), MOST)]


def bounded(claims: Sequence[Claim]) -> list[list[Claim]]:
    """The claims of a call, in as many calls as it takes for none to have more than MOST_BYTES.

    What goes by another user and password, or token, has its own call: who sees the URL does not see these.
    """
    by_user: dict[str, list[Claim]] = {}
    for each in claims:
        by_user.setdefault(each.userinfo, []).append(each)
    return [part for some in by_user.values() for part in _bounded(some)]


def _bounded(claims: Sequence[Claim]) -> list[list[Claim]]:
    made: list[list[Claim]] = []
    size = MOST_BYTES
    for each in claims:
        size += len(each.row.body)
        if size > MOST_BYTES:
            made.append([])
            size = len(each.row.body)
        made[-1].append(each)
    return made


def key(delivery_ids: Sequence[str]) -> str:
    """The idempotency key of a digest: the same for the same notifications."""
    return str(uuid.uuid5(_NAMESPACE, " ".join(delivery_ids)))


def body(rows: Sequence[Row[Any]]) -> str:
    """What a digest says, JSON."""
    listed = [{**_content(row.body), "idempotency_key": row.delivery_id} for row in rows]
    return json.dumps({"digest": True, "count": len(rows), "notifications": listed})


def _content(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:  # damaged: it is told all the same
        found = text
    return found if isinstance(found, dict) else {"body": found}
