"""Thrift's compact protocol: reads structs into dictionaries, and writes them.

Parquet's footers are such structs. This knows no schema: what it does not look at it writes back as it was. Source:
https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
"""

from collections.abc import Callable
from typing import Any, NamedTuple

TRUE, FALSE, BYTE, I16, I32, I64, DOUBLE, BINARY, LIST, SET, MAP, STRUCT = range(1, 13)


class Value(NamedTuple):
    """A field of a struct: its kind, and an int, bool, bytes, `Items` or a struct."""

    kind: int
    value: Any


class Items(NamedTuple):
    """A list: the kind of its items, and these."""

    kind: int
    items: list[Any]


Struct = dict[int, Value]
"""By the field's id."""


class _Reader:
    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def byte(self) -> int:
        self.at += 1
        return self.data[self.at - 1]

    def varint(self) -> int:
        found = shift = 0
        while True:
            byte = self.byte()
            found |= (byte & 0x7F) << shift
            if byte < 0x80:
                return found
            shift += 7

    def zigzag(self) -> int:
        found = self.varint()
        return (found >> 1) ^ -(found & 1)

    def bytes(self, count: int) -> bytes:
        self.at += count
        return self.data[self.at - count : self.at]

    def value(self, kind: int) -> Any:
        return _READ[kind](self)

    def struct(self) -> Struct:
        found: Struct = {}
        field = 0
        while head := self.byte():
            field = field + (head >> 4) if head >> 4 else self.zigzag()
            kind = head & 0x0F
            found[field] = Value(kind, kind == TRUE if kind in (TRUE, FALSE) else self.value(kind))
        return found

    def list(self) -> Items:
        head = self.byte()
        count = head >> 4 if head >> 4 < 15 else self.varint()
        return Items(head & 0x0F, [self.value(head & 0x0F) for _ in range(count)])


_READ: dict[int, Callable[[_Reader], Any]] = {
    TRUE: lambda reader: reader.byte() == TRUE,
    FALSE: lambda reader: reader.byte() == TRUE,
    BYTE: _Reader.byte,
    I16: _Reader.zigzag,
    I32: _Reader.zigzag,
    I64: _Reader.zigzag,
    DOUBLE: lambda reader: reader.bytes(8),
    BINARY: lambda reader: reader.bytes(reader.varint()),
    LIST: _Reader.list,
    SET: _Reader.list,
    STRUCT: _Reader.struct,
}


def read(data: bytes) -> Struct:
    """The struct that the bytes begin with.

    Raises:
        KeyError, IndexError: they are not one, or have a map, which no footer of Parquet has.
    """
    return _Reader(data).struct()


def read_length(data: bytes) -> tuple[Struct, int]:
    """As `read`, with the number of bytes that the struct takes."""
    reader = _Reader(data)
    return reader.struct(), reader.at


def number(value: int) -> bytes:
    """The bytes of an integer's value."""
    out = bytearray()
    _zigzag(out, value)
    return bytes(out)


def written(struct: Struct) -> bytes:
    """A struct's bytes."""
    out = bytearray()
    _write_struct(out, struct)
    return bytes(out)


def _varint(out: bytearray, value: int) -> None:
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)


def _zigzag(out: bytearray, value: int) -> None:
    _varint(out, value << 1 if value >= 0 else (-value << 1) - 1)


def _write_struct(out: bytearray, struct: Struct) -> None:
    last = 0
    for field, (kind, value) in sorted(struct.items()):
        if kind in (TRUE, FALSE):
            kind = TRUE if value else FALSE
        if 0 < field - last < 16:
            out.append((field - last) << 4 | kind)
        else:
            out.append(kind)
            _zigzag(out, field)
        if kind not in (TRUE, FALSE):
            _write(out, kind, value)
        last = field
    out.append(0)


def _write(out: bytearray, kind: int, value: Any) -> None:
    if kind in (I16, I32, I64):
        _zigzag(out, value)
    elif kind == BINARY:
        _varint(out, len(value))
        out += value
    elif kind == STRUCT:
        _write_struct(out, value)
    elif kind in (LIST, SET):
        count = len(value.items)
        out.append(min(count, 15) << 4 | value.kind)
        if count >= 15:
            _varint(out, count)
        for item in value.items:
            _write(out, value.kind, item)
    elif kind == DOUBLE:
        out += value
    else:  # BYTE, and truths in a list
        out.append(value if kind == BYTE else TRUE if value else FALSE)
