"""Reads samples from JSON, piece by piece: lines of objects, or one array. A bad line does not affect the others.

`column_names` lists the names of the fields.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import orjson

from meterhouse.collection.column_names import BadColumns, is_sample, understood
from meterhouse.collection.sample_rows import TEXTS, BadFile, Piece, SampleRows, Task, queue
from meterhouse.stream import too_long
from meterhouse.stream.envelope import BadMessage, parse_json
from meterhouse.stream.files import Damaged, numbered_lines


def read_json(path: Path, longest: int) -> Callable[[], Iterator[Task]] | None:
    """What begins to read the samples of a file of JSON lines, or of one JSON array as clients of OpenStack print it.

    Returns None if the file has notifications: the first object that can be read decides.

    Args:
        path: the file.
        longest: maximum number of bytes of a line, and of an array.

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
    return partial(_tasks, partial(_rows_of_lines, path, longest))


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


def _rows_of_lines(path: Path, longest: int) -> Iterator[SampleRows]:
    piece, columns = Piece(), set[str]()
    try:
        for number, line, size in numbered_lines(path, longest, _opened):
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
                yield piece.take(TEXTS, columns)
    except Damaged as damage:
        piece.letter(damage.start, queue(path, damage.number), str(damage))
    yield piece.take(TEXTS, columns)


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
