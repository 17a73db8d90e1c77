"""Reads samples from JSON: lines of objects, or one array. A bad line does not affect the others.

A block of lines whose objects have the same few keys, and texts and numbers where they belong, is decoded at once. If
it is none, its halves are tried, down to LINES_BYTES, which are read line by line. `column_names` lists the names of
the fields.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import lru_cache, partial
from operator import attrgetter
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import orjson
import pyarrow as pa

from meterhouse.collection.column_names import BadColumns, is_sample, understood
from meterhouse.collection.sample_rows import TEXTS, BadFile, Piece, SampleRows, Task, Told, queue, untold
from meterhouse.collection.text_blocks import TextBlocks, line_feeds, lines_of, may_have_longer_lines
from meterhouse.stream import too_long
from meterhouse.stream.envelope import BadMessage, parse_json
from meterhouse.stream.files import Damaged, Line, numbered_lines

BLOCK_BYTES: Final = 8 << 20

LINES_BYTES: Final = 1 << 16
"""A block of this size is read line by line if it cannot be decoded at once."""

SAMPLED: Final = 16
"""Of about how many lines of a block the keys are looked at."""

_NOTHING: Final = msgspec.Raw(b"")


def read_json(path: Path, longest: int, told: Told = untold) -> Callable[[], Iterator[Task]] | None:
    """What begins to read the samples of a file of JSON lines, or of one JSON array as clients of OpenStack print it.

    Returns None if the file has notifications: the first object that can be read decides.

    Args:
        path: the file.
        longest: maximum number of bytes of a line, and of an array.
        told: see `Told`.

    Raises:
        BadFile: the first sample has a column that cannot be used, or the array cannot be read.
        OSError: the file cannot be opened or read.
    """
    first: dict[str, Any] | None = None
    try:
        for _, line, size in numbered_lines(path, longest, _opened):
            text = line.strip()
            if text.startswith(b"[") and (found := _array(path, longest, alone=text == b"[")) is not None:
                _check(path, found)
                return partial(_tasks, partial(_rows_of_array, path, found))
            first = _object(text) if size <= longest else None
            if first is not None:
                break
    except Damaged:
        return None
    if first is None or not is_sample(first):
        return None
    _check(path, [first])
    return partial(_parts_of_lines, path, longest, told)


def _tasks(pieces: Callable[[], Iterator[SampleRows]]) -> Iterator[Task]:
    for piece in pieces():
        yield partial(list, (piece,))


def _opened(path: Path) -> Any:
    return path.open("rb")


def _object(text: bytes) -> dict[str, Any] | None:
    try:
        found = parse_json(text.decode("utf-8"))
    except (BadMessage, UnicodeDecodeError):
        return None
    return found if isinstance(found, dict) else None


def _check(path: Path, found: Sequence[Any]) -> None:
    """Check the columns of the first sample: a name that is wrong there is wrong in every line."""
    for sample in found[:1]:
        try:
            _understood(tuple(sample))
        except BadColumns as fault:
            raise BadFile(str(fault), where=str(path)) from None


@lru_cache(maxsize=1024)
def _understood(names: tuple[str, ...]) -> list[str]:
    return understood(names)


def _array(path: Path, longest: int, *, alone: bool) -> list[Any] | None:
    """The objects of a file that is one JSON array; None if it is not.

    Raises:
        BadFile: its first line shows that it is an array (`alone`), but it cannot be read.
    """
    read: list[bytes] = []
    size = 0
    try:
        for _, line, length in numbered_lines(path, longest, _opened):
            read.append(line)
            size += length + 1
            if size > longest:
                break
    except Damaged:
        size = longest + 1
    found: Any = None
    if size <= longest:
        try:
            found = parse_json(b"\n".join(read).decode("utf-8"))
        except (BadMessage, UnicodeDecodeError):
            found = None
    if isinstance(found, list) and all(isinstance(each, dict) and is_sample(each) for each in found):
        return found
    if alone:
        raise BadFile(
            f"is not a JSON array of samples of at most {longest:,} bytes", where=str(path), hint="Write JSON lines"
        )
    return None


def _rows_of_array(path: Path, found: list[Any]) -> Iterator[SampleRows]:
    piece, columns = Piece(), set[str]()
    for place, sample in enumerate(found, 1):
        text = json.dumps(sample, ensure_ascii=False).encode("utf-8", "replace").decode("utf-8")
        _take(piece, columns, queue(path, place), place, text, sample)
        if piece.is_full:
            yield piece.take(TEXTS, columns)
    yield piece.take(TEXTS, columns)


def _parts_of_lines(path: Path, longest: int, told: Told) -> Iterator[Task]:
    try:
        blocks = TextBlocks(path, longest)
    except Damaged as damage:
        yield partial(_rows_of_lines, path, longest, [damage])
        return
    try:
        while True:
            told(blocks.share)
            block, number = blocks.block(BLOCK_BYTES)
            if block:
                yield partial(_rows_of_block, path, longest, block, number)
                continue
            try:
                line = blocks.line()
            except Damaged as damage:
                yield partial(_rows_of_lines, path, longest, [damage])
                return
            if line is None:
                return
            yield partial(_rows_of_lines, path, longest, [line])
    finally:
        blocks.close()


def _rows_of_block(path: Path, longest: int, block: bytes | bytearray, number: int) -> list[SampleRows]:
    """The rows of whole lines, of which the first has this number."""
    if (taken := _columns_of_block(longest, block, number)) is not None:
        return [taken]
    middle = block.rfind(b"\n", 0, len(block) // 2) + 1 or block.find(b"\n") + 1
    if len(block) <= LINES_BYTES or middle in (0, len(block)):
        return _rows_of_lines(path, longest, lines_of(bytes(block), number, longest))
    first, rest = block[:middle], block[middle:]
    rows = _rows_of_block(path, longest, first, number)
    return rows + _rows_of_block(path, longest, rest, number + line_feeds(first))


def _columns_of_block(longest: int, block: bytes | bytearray, number: int) -> SampleRows | None:
    """The rows if each line is an object with keys that some lines of the block have, and usual values; else None."""
    if not _is_an_object_a_line(block) or may_have_longer_lines(block, longest):
        return None
    try:
        if not block.isascii():
            block.decode("utf-8")
        keys = _keys(block)
        columns = _understood(keys)
        found = _decoder(keys)(block)
    except (ValueError, RecursionError):  # also UnicodeDecodeError, BadColumns, and errors of msgspec
        return None
    if len(found) != line_feeds(block) + (not block.endswith(b"\n")):
        return None
    values = {name: list(map(attrgetter(f"f{place}"), found)) for place, name in enumerate(columns) if name}
    try:
        rows = {name: _column(name, each) for name, each in values.items()}
    except (pa.ArrowInvalid, pa.ArrowTypeError):  # volumes of which some are texts
        return None
    for name in {"timestamp", "volume"}.difference(rows):
        rows[name] = pa.nulls(len(found), pa.string())
    return SampleRows(pa.table(rows), number, lambda place: bytes(block.split(b"\n")[place].strip()), set(values), [])


def _is_an_object_a_line(block: bytes | bytearray) -> bool:
    """Whether each line has a brace at its start and at its end; then it is one object, if there are as many."""
    text = np.frombuffer(block, np.uint8)
    ends = np.flatnonzero(text == ord("\n"))
    if not len(ends) or ends[-1] != len(text) - 1:
        ends = np.append(ends, len(text))
    starts = np.append(0, ends[:-1] + 1)
    closing = ends - 1 - (text[ends - 1] == ord("\r"))
    return bool((starts < closing).all() and (text[starts] == ord("{")).all() and (text[closing] == ord("}")).all())


def _keys(block: bytes | bytearray) -> tuple[str, ...]:
    """The keys of some lines of a block, in the order in which they come."""
    keys: dict[str, None] = {}
    for place in range(0, len(block), max(len(block) // SAMPLED, 1)):
        start = block.rfind(b"\n", 0, place) + 1
        end = block.find(b"\n", start)
        keys |= dict.fromkeys(orjson.loads(bytes(block[start : end if end >= 0 else len(block)])))
    return tuple(keys)


@lru_cache(maxsize=16)
def _decoder(keys: tuple[str, ...]) -> Callable[[bytes | bytearray], list[Any]]:
    """What decodes lines of objects that have no other keys than these; the places of the keys name the attributes."""
    names = [f"f{place}" for place in range(len(keys))]
    fields: list[tuple[str, Any, Any]] = []
    for name, column in zip(names, _understood(keys), strict=True):
        if not column:
            fields.append((name, msgspec.Raw, _NOTHING))
        else:
            fields.append((name, float | str | None if column == "volume" else str | None, None))
    renamed = dict(zip(names, keys, strict=True))
    row = msgspec.defstruct("Row", fields, rename=renamed, forbid_unknown_fields=True, gc=False)
    return msgspec.json.Decoder(row).decode_lines


def _column(name: str, values: list[Any]) -> pa.Array:
    """A column as `SampleRows` has it."""
    if name == "volume":
        texts = any(isinstance(value, str) for value in values)
        return pa.array(values, pa.string() if texts else pa.float64())
    column = pa.array(values, pa.string())
    if name == "timestamp":
        for zone in ("UTC", None):
            with suppress(pa.ArrowInvalid):  # of unusual form: they are understood later
                return column.cast(pa.timestamp("us", zone))
    return column


def _rows_of_lines(path: Path, longest: int, lines: Iterable[Line | Damaged]) -> list[SampleRows]:
    """The rows of lines, read one by one."""
    piece, columns, pieces = Piece(), set[str](), list[SampleRows]()
    for each in lines:
        if isinstance(each, Damaged):
            piece.letter(each.start, queue(path, each.number), str(each))
            continue
        number, line, size = each
        if fault := too_long(size, longest):
            piece.letter(line, queue(path, number), fault)
        elif body := line.strip():
            try:
                text = body.decode("utf-8")
                sample = parse_json(text)
                if not isinstance(sample, dict):
                    raise BadMessage(f"not a JSON object but {type(sample).__name__}")
            except (BadMessage, UnicodeDecodeError) as error:
                reason = "not UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
                piece.letter(body, queue(path, number), reason)
            else:
                _take(piece, columns, queue(path, number), number, text, sample)
        if piece.is_full:
            pieces.append(piece.take(TEXTS, columns))
    return [*pieces, piece.take(TEXTS, columns)]


def _take(piece: Piece, columns: set[str], place: str, line: int, text: str, sample: dict[str, Any]) -> None:
    """Take an object as a row, or as a dead letter with what is wrong with its names and values."""
    try:
        if "event_type" in sample:
            raise BadMessage("a notification in a file of samples")
        names = _understood(tuple(sample))
        values = {name: _text(name, value) for name, value in zip(names, sample.values(), strict=True) if name}
    except ValueError as fault:
        piece.letter(text.encode(), place, str(fault))
        return
    columns.update(values)
    piece.row(line, text, [values.get(name) for name in TEXTS])


def _text(name: str, value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value if value is None else value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, bool):
        return orjson.dumps(value).decode()
    if isinstance(value, dict | list):
        raise ValueError(f"the {name} is neither a text nor a number")
    return str(value)
