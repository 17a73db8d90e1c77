"""Reads a large JSON file from its start to its end without holding all of it: small values, and ranges of points."""

import gzip
import json
import mmap
import re
import shutil
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO, Final

from meterhouse.collection.sample_rows import BadFile
from meterhouse.private_files import make_folder

SMALL: Final = 1 << 20
"""Maximum number of bytes of a value that is read at once."""

POINTS_BYTES: Final = 4 << 20
"""About how many bytes of points are taken at once."""

_SPACE: Final = re.compile(rb"[ \t\r\n]*")
_STRING: Final = re.compile(rb'"(?:[^"\\\x00-\x1f]|\\.)*"')
_ENDS: Final = {b"[": re.compile(rb"\]\s*\]"), b"{": re.compile(rb"\}\s*\]")}
_BETWEEN: Final = {b"[": re.compile(rb"\]\s*,\s*\["), b"{": re.compile(rb"\}\s*,\s*\{")}
_decoder: Final = json.JSONDecoder()


class JsonText:
    """A JSON file. Methods raise `BadFile` if what comes next is something else.

    Args:
        path: the file. If its name ends in `.gz`, it is decompressed into a file of no name.
        folder: where to; None for the system's.
        what: what the file ought to be, for errors.

    Raises:
        OSError: the file cannot be opened or read.
        BadFile: it is empty, or cannot be decompressed.
    """

    def __init__(self, path: Path, folder: Path | None, what: str) -> None:
        self._path, self._what = path, what
        self._file: BinaryIO = path.open("rb")
        try:
            if path.name.endswith(".gz"):
                self._file = self._unpacked(folder)
            self._text = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
        except (gzip.BadGzipFile, EOFError, zlib.error) as error:
            raise BadFile(f"cannot be read: the file is damaged: {error}", where=str(path)) from None
        except ValueError:
            raise BadFile("is empty", where=str(path)) from None
        self._at = 3 if self._text[:3] == b"\xef\xbb\xbf" else 0

    @property
    def share(self) -> float:
        """The share of the text that was read, from 0 to 1."""
        return self._at / len(self._text)

    def close(self) -> None:
        """Close the file."""
        self._text.close()
        self._file.close()

    def peek(self) -> bytes:
        """The next character that is not a space; empty at the end."""
        found = _SPACE.match(self._text, self._at)
        self._at = found.end() if found else self._at
        return self._text[self._at : self._at + 1]

    def take(self, character: bytes) -> None:
        """Take a character."""
        if self.peek() != character:
            raise self.fault(f"there is no {character.decode()}")
        self._at += 1

    def _more(self, end: bytes) -> bool:
        """Whether another value follows in an array or object; its comma is taken, or its end."""
        if self.peek() == b",":
            self._at += 1
            return True
        self.take(end)
        return False

    def members(self) -> Iterator[str]:
        """Take an object: its keys. Take the value of each before the next one."""
        self.take(b"{")
        if self.peek() == b"}":
            self.take(b"}")
            return
        while True:
            yield self._key()
            if not self._more(b"}"):
                return

    def elements(self) -> Iterator[None]:
        """Take an array: once for each element. Take it before the next one."""
        self.take(b"[")
        if self.peek() == b"]":
            self.take(b"]")
            return
        while True:
            yield None
            if not self._more(b"]"):
                return

    def _key(self) -> str:
        self.peek()
        found = _STRING.match(self._text, self._at, self._at + SMALL)
        if found is None:
            raise self.fault("there is no key")
        self._at = found.end()
        self.take(b":")
        return self._decoded(found[0])

    def value(self) -> Any:
        """Take a small value."""
        self.peek()
        for size in (1 << 12, SMALL):
            text = self._text[self._at : self._at + size].decode("utf-8", "ignore")
            try:
                found, end = _decoder.raw_decode(text)
            except (ValueError, RecursionError):
                continue
            if end < len(text):  # otherwise it may go on
                self._at += len(text[:end].encode())
                return found
        raise self.fault("there is no value, or a long one")

    def points(self) -> Iterator[bytes]:
        """Take an array of arrays, or of objects, in parts: whole elements with the commas between them."""
        self.take(b"[")
        kind = self.peek()
        if kind == b"]":
            self._at += 1
            return
        if kind not in _ENDS:
            raise self.fault("there is neither an array nor an object")
        ends, between = _ENDS[kind], _BETWEEN[kind]
        while True:
            limit = self._at + POINTS_BYTES
            if end := ends.search(self._text, self._at, limit):
                part = self._text[self._at : end.start() + 1]
                self._at = end.end()
                yield part
                return
            near = max(self._at, limit - (1 << 12))
            cut = between.search(self._text, near, limit) or between.search(self._text, self._at, limit)
            if cut is None:
                raise self.fault("an array does not end")
            part = self._text[self._at : cut.start() + 1]
            self._at = cut.end() - 1
            yield part

    def fault(self, why: str) -> BadFile:
        """The error for what comes next."""
        shown = self._text[self._at : self._at + 20].decode("utf-8", "replace")
        return BadFile(f"is not {self._what}: {why} at byte {self._at + 1:,}: {shown!r}", where=str(self._path))

    def _decoded(self, text: bytes) -> str:
        try:
            return str(json.loads(text))
        except ValueError:
            raise self.fault("there is a text that cannot be read") from None

    def _unpacked(self, folder: Path | None) -> BinaryIO:
        if folder is not None:
            make_folder(folder)
        packed = self._file
        unpacked = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115  # it is read after this; `close` closes it
        with packed, gzip.GzipFile(fileobj=packed) as source:
            shutil.copyfileobj(source, unpacked, SMALL)
        unpacked.flush()
        return unpacked
