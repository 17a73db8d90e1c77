"""Divides resources among the tasks of a slot."""

from collections.abc import Iterable

from meterhouse.polling.polled import Piece
from meterhouse.polling.shards import shard_of


def share(resources: Iterable[str], piece: Piece) -> list[str]:
    """The resources of a piece, each once, in their order."""
    each_once = dict.fromkeys(resources)
    if piece.resources is not None:
        wanted = set(piece.resources)
        return [resource for resource in each_once if resource in wanted]
    if piece.shards == 1:
        return list(each_once)
    return [resource for resource in each_once if shard_of(resource, piece.shards) == piece.shard]
