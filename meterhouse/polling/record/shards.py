"""The names of shards, which tell the tasks of a slot from each other; and the ids of their messages.

The first tasks of a slot are `1/4` to `4/4`. What a task leaves to do is `1/4+1`, what that leaves `1/4+2`, and so on,
as pages follow each other. If a task leaves several parts, the second is `1/4+1.2.0`, and what that leaves `1/4+1.2.1`.
So no two tasks of a slot have the same name, whoever names them.
"""

from datetime import datetime
from typing import Final

ALL: Final = "*"
"""The shard of a slot that was recorded as missed before it was divided."""


def first(shards: int) -> list[str]:
    """The names of the tasks of a slot that is divided into this many."""
    return [f"{shard + 1}/{shards}" for shard in range(shards)]


def place(shard: str) -> tuple[int, int]:
    """Which of how many, from 0: the hash of a resource modulo the second is the first."""
    which, _, many = shard.partition("+")[0].partition("/")
    return (int(which) - 1, int(many)) if many else (0, 1)


def rest(shard: str, number: int) -> str:
    """The name of what a task leaves to do: of its part with this number, from 0."""
    head, mark, path = shard.partition("+")
    if not mark:
        path = "0"
    if number:
        return f"{head}+{path}.{number + 1}.0"
    before, dot, last = path.rpartition(".")
    return f"{head}+{before}{dot}{int(last) + 1}"


def message_id(source: str, pollster: str, host: str, start: datetime, shard: str) -> str:
    """The message_id of a task's batch: the same whoever polls it."""
    names = ":".join(name.replace("%", "%25").replace(":", "%3A") for name in (source, pollster, host))
    return f"poll:{names}:{start:%Y-%m-%dT%H:%M:%SZ}:{shard}"
