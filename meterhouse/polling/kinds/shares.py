"""Divides resources among the tasks of a slot."""

import zlib
from collections.abc import Iterable

from meterhouse.polling.polled import Piece


def share(resources: Iterable[str], piece: Piece) -> list[str]:
    """The resources of a piece, each once, in their order."""
    each_once = dict.fromkeys(resources)
    if piece.resources is not None:
        wanted = set(piece.resources)
        return [resource for resource in each_once if resource in wanted]
    if piece.shards == 1:
        return list(each_once)
    return [resource for resource in each_once if zlib.crc32(resource.encode()) % piece.shards == piece.shard]
