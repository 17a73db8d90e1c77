"""Divides resources among the tasks of a slot, and names those that a task leaves to another."""

import hashlib
from collections.abc import Callable, Iterable

from meterhouse.polling.asking.addresses import shown_url
from meterhouse.polling.polled import Piece
from meterhouse.polling.shards import shard_of


def share(resources: Iterable[str], piece: Piece) -> list[str]:
    """The resources of a piece, each once, in their order."""
    each_once = dict.fromkeys(resources)
    if piece.resources is not None:
        wanted = set(piece.resources)
        return [resource for resource in each_once if kept_name(resource) in wanted]
    if piece.shards == 1:
        return list(each_once)
    return [resource for resource in each_once if shard_of(resource, piece.shards) == piece.shard]


def kept_name(resource: str) -> str:
    """The name by which a piece, and so the record, has a resource.

    It is the resource itself; of a URL with user, password, query or fragment, which may be secrets, it is the URL
    without them and eight digits of their BLAKE2 hash, by which the source's own list finds it again.
    """
    shown = shown_url(resource)
    if "://" not in resource:
        shown = shown.rpartition("@")[2]
    if shown == resource:
        return resource
    return f"{shown}#{hashlib.blake2b(resource.encode('utf-8', 'surrogatepass'), digest_size=4).hexdigest()}"


def named(names: Iterable[str], found: Callable[[], Iterable[str]]) -> list[str]:
    """The resources that have these names, in the order of the names.

    Args:
        names: see `kept_name`.
        found: returns all resources of the source. It is called only if a name is not the resource itself; those that
            the source has no more are left out.
    """
    wanted = list(names)
    if all("#" not in name for name in wanted):
        return wanted
    by_name = {kept_name(resource): resource for resource in found()}
    return [by_name[name] for name in wanted if name in by_name]
