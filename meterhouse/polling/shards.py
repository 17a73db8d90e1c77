"""Divides what is polled among tasks."""

from xxhash import xxh3_64_intdigest


def shard_of(name: str, shards: int) -> int:
    """To which of so many shards a resource belongs, from 0: the same on every machine."""
    return xxh3_64_intdigest(name.encode("utf-8", "surrogatepass")) % shards
