"""Which row groups of a file of events may have a trait with some value: a Bloom filter for each row group.

A filter is a split block Bloom filter, as Parquet defines them, but of the name and value of each trait, which Parquet
has in two columns of a list. The filters of all groups have the same number of blocks, and are stored block by block,
each with those of all groups side by side. So a look-up reads 32 bytes a group, wherever the value is.

They are between the last row group and the footer, where readers of Parquet do not look. Before them is the directory:
for each group, where its head is (8 bytes), the size of the head, and that of the pages (see `group_reading`). After
them is a trailer: MAGIC, the number of row groups, that of blocks, and the checksum of these. Numbers have 4 bytes if
nothing else is said, and are little-endian.

Numbers and times are not in the filters, because a condition may write them in another way than the trait does. Source:
https://parquet.apache.org/docs/file-format/bloomfilter/
"""

import re
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import xxhash

from meterhouse import times
from meterhouse.errors import UsageError
from meterhouse.filters import And, Condition, Filter, OneOf, Or
from meterhouse.filters.conditions import NUMBER, leaves_of, number_of
from meterhouse.filters.fields import TRAITS

MAGIC: Final = b"MHtf"

BITS: Final = 16
"""How many bits of a filter a value takes: one in some thousand of the groups that lack it is read for nothing."""

_TRAILER: Final = struct.Struct("<4sIII")
_ENTRY: Final = struct.Struct("<QII")
_FOOTER_END: Final = 8
"""Bytes of the size of Parquet's footer and of its magic number, at the end of the file."""

_TIME: Final = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}"
_BLOCK: Final = 32
_SALTS: Final = np.array(
    [0x47B6137B, 0x44974D91, 0x8824AD5B, 0xA2B7289D, 0x705495C7, 0x2DF1424B, 0x9EFC4947, 0x5C6BFB31], np.uint32
)

Hashes = npt.NDArray[np.uint64]
Flags = npt.NDArray[np.bool_]
Words = npt.NDArray[np.uint32]

Fetch = Callable[[int, int], bytes]
"""Reads a part of a file: from where, and how many bytes."""


@dataclass(frozen=True)
class Place:
    """Where a row group is: its head, and right after it its pages, at least those of the columns that are looked up.

    Attributes:
        at: where the head begins in the file.
        head: its size in bytes.
        pages: that of the pages.
    """

    at: int
    head: int
    pages: int


@dataclass(frozen=True)
class Trait:
    """A trait with a value, as text."""

    name: str
    value: str

    @property
    def hash(self) -> int:
        """64 bits."""
        return xxhash.xxh3_64_intdigest(f"{self.name}\0{self.value}".encode("utf-8", "surrogatepass"))


def filters_of(groups: Sequence[tuple[Hashes, Place]]) -> bytes:
    """The directory and the filters of row groups, with the trailer.

    Args:
        groups: of each, the hashes of its traits, and where it is.
    """
    hashes = [each for each, _ in groups]
    blocks = max([1, *(-(-len(each) * BITS // (8 * _BLOCK)) for each in hashes)])
    words = np.zeros((blocks, len(groups), 8), np.uint32)
    for number, each in enumerate(hashes):
        np.bitwise_or.at(words[:, number], _block(each, blocks), _masks(each))
    head = _TRAILER.pack(MAGIC, len(groups), blocks, 0)[:12]
    directory = [_ENTRY.pack(place.at, place.head, place.pages) for _, place in groups]
    checksum = struct.pack("<I", xxhash.xxh32_intdigest(head))
    return b"".join([*directory, words.astype("<u4").tobytes(), head, checksum])


def hashes_of(traits: pa.Array) -> Hashes:
    """The hashes of the distinct traits that a condition may be looked up by.

    Args:
        traits: of events: lists of structs with name and value.
    """
    flat = traits.flatten()
    names, values = flat.field("name"), flat.field("value")
    apart = pc.or_(pc.match_substring_regex(values, NUMBER), pc.match_substring_regex(values, _TIME))
    rows = pa.table({"name": names, "value": values}).filter(pc.invert(pc.fill_null(apart, True)))
    distinct = rows.group_by(["name", "value"], use_threads=False).aggregate([])
    pairs = zip(distinct["name"].to_pylist(), distinct["value"].to_pylist(), strict=True)
    return np.array([Trait(name, value).hash for name, value in pairs if name is not None], np.uint64)


def _block(hashes: Hashes, blocks: int) -> npt.NDArray[np.int64]:
    return ((hashes >> np.uint64(32)) * np.uint64(blocks) >> np.uint64(32)).astype(np.int64)


def _masks(hashes: Hashes) -> Words:
    """For each hash, the words of its block with the bits that it sets; shape (hashes, 8)."""
    low = (hashes & np.uint64(0xFFFFFFFF)).astype(np.uint32)
    masks: Words = np.left_shift(np.uint32(1), (low[:, None] * _SALTS) >> np.uint32(27))
    return masks


class Sought:
    """The traits by whose values a condition can be looked up.

    Args:
        condition: on EVENTS.
    """

    def __init__(self, condition: Condition) -> None:
        self._condition = condition
        traits = {trait for leaf in leaves_of(condition) for trait in _traits_of(leaf) or ()}
        hashes = np.array([trait.hash for trait in traits], np.uint64)
        self._known = dict(zip(traits, zip(hashes, _masks(hashes), strict=True), strict=True))

    def __bool__(self) -> bool:
        """Whether any row group can be left out."""
        return not self._met({trait: np.zeros(1, np.bool_) for trait in self._known}, 1).all()

    def groups(self, size: int, fetch: Fetch) -> list[Place] | None:
        """The row groups that may have events that fulfil the condition; None if the file has no filters.

        Args:
            size: of the file, in bytes.
            fetch: reads a part of it.

        Raises:
            OSError: it cannot be read.
        """
        if size < _TRAILER.size + _FOOTER_END:
            return None
        end = size - _FOOTER_END - int.from_bytes(fetch(size - _FOOTER_END, 4), "little") - _TRAILER.size
        trailer = fetch(end, _TRAILER.size) if end > 0 else b""
        if trailer[:4] != MAGIC or xxhash.xxh32_intdigest(trailer[:12]) != int.from_bytes(trailer[12:], "little"):
            return None
        _, groups, blocks, _ = _TRAILER.unpack(trailer)
        start, width = end - blocks * groups * _BLOCK, groups * _BLOCK
        there: dict[Trait, Flags] = {}
        for trait, (hashed, mask) in self._known.items():
            block = int(_block(np.array([hashed]), blocks)[0])
            words = np.frombuffer(fetch(start + block * width, width), "<u4").reshape(groups, 8)
            there[trait] = ((words & mask) == mask).all(axis=1)
        directory = start - groups * _ENTRY.size
        return [
            Place(*_ENTRY.unpack(fetch(directory + number * _ENTRY.size, _ENTRY.size)))
            for number in np.flatnonzero(self._met(there, groups)).tolist()
        ]

    def _met(self, there: Mapping[Trait, Flags], groups: int) -> Flags:
        return _met(self._condition, there, groups)


def _met(condition: Condition, there: Mapping[Trait, Flags], groups: int) -> Flags:
    """Which groups may have events that fulfil a condition, by those that may have the traits."""
    found = np.ones(groups, np.bool_)
    match condition:
        case And(parts):
            for part in parts:
                found &= _met(part, there, groups)
        case Or(parts):
            found[:] = False
            for part in parts:
                found |= _met(part, there, groups)
        case _ if (traits := _traits_of(condition)) is not None:
            found = np.any([there[trait] for trait in traits], axis=0)
    return found


def _traits_of(condition: Condition) -> list[Trait] | None:
    """The traits of which an event needs one to fulfil a comparison; None if that is not known."""
    match condition:
        case Filter(op="eq", value=value, target=target):
            values: tuple[str, ...] = (value,)
        case OneOf(among=values, target=target):
            pass
        case _:
            return None
    if target.column != TRAITS or not all(map(_is_plain, values)):
        return None
    return [Trait(target.key, value) for value in values]


def _is_plain(value: str) -> bool:
    """Whether only traits with exactly this text equal a value."""
    if number_of(value) is not None or re.match(_TIME, value):
        return False
    try:
        times.parse(value)
    except UsageError:
        return True
    return False
