"""What a file is, by how it starts."""

import gzip
import json
import re
import zlib
from enum import Enum, auto
from pathlib import Path
from typing import Final

from meterhouse.collection.column_names import GRANULARITY
from meterhouse.collection.sample_rows import BadFile

ENDINGS: Final = (".csv", ".jsonl", ".json", ".ndjson", ".parquet")

START_BYTES: Final = 1 << 14


class Format(Enum):
    """What a file is. JSON is lines of samples or notifications, or an array of samples."""

    CSV = auto()
    JSON = auto()
    PARQUET = auto()
    PROMETHEUS = auto()
    GNOCCHI = auto()


_RESULT: Final = re.compile(rb'\{\s*"status"\s*:.*?"resultType"\s*:\s*"(\w+)"', re.DOTALL)
_ERROR: Final = re.compile(rb'\{\s*"status"\s*:\s*"error"[^{}]*"error"\s*:\s*"([^"]*)"')
_TIME: Final = rb'(\[\s*"\d{4}-\d\d|\{\s*"timestamp"\s*:\s*"\d{4}-\d\d)'
_ARRAY: Final = re.compile(rb'\[\s*\[\s*"\d{4}-\d\d')
_FIRST_OBJECT: Final = re.compile(rb"\[\s*(\{[^{}\[\]]*\})")
_POLICY: Final = rb'("archive_policy_name"\s*:\s*"[^"]*"\s*,\s*)?'
_BATCH: Final = re.compile(rb'\{\s*"[^"]+"\s*:\s*(\{\s*' + _POLICY + rb'"[^"]+"\s*:\s*){0,3}\[\s*' + _TIME)
_MEASURES: Final = re.compile(rb'\{\s*("references"\s*:|"measures"\s*:\s*\{)')


def format_of(path: Path) -> Format:
    """What a file is: by its content if that tells, otherwise by its ending.

    Raises:
        BadFile: neither tells, or it is an answer of Prometheus without a span of time.
        OSError: it cannot be read.
    """
    start = _start(path)
    name = path.name.removesuffix(".gz")
    if start.startswith(b"PAR1"):
        return Format.PARQUET
    if not name.endswith(".csv"):
        if (found := _RESULT.match(start)) is not None:
            if found[1] == b"matrix":
                return Format.PROMETHEUS
            raise BadFile(
                f"is an answer of Prometheus with a {found[1].decode()}, which is of one moment",
                where=str(path),
                hint="Query a span of time: /api/v1/query_range",
            )
        if (failed := _ERROR.match(start)) is not None:
            why = failed[1].decode("utf-8", "replace")[:200]
            raise BadFile(f"is an answer of Prometheus that says: {why}", where=str(path))
        if _ARRAY.match(start) or _BATCH.match(start) or _MEASURES.match(start) or _is_measure(start):
            return Format.GNOCCHI
    if name.endswith(".csv"):
        return Format.CSV
    if name.endswith(ENDINGS[1:4]):
        return Format.JSON
    if name.endswith(ENDINGS[4:]):
        raise BadFile("is not a Parquet file", where=str(path))
    raise BadFile("has an unknown ending", where=str(path), hint=f"Use {', '.join(ENDINGS)}, or one of these with .gz")


def _is_measure(start: bytes) -> bool:
    """Whether the first object of an array is a measure as Gnocchi's client prints it."""
    if (found := _FIRST_OBJECT.match(start)) is None:
        return False
    try:
        return set(json.loads(found[1])) == {"timestamp", GRANULARITY, "value"}
    except ValueError:
        return False


def _start(path: Path) -> bytes:
    """The start of a file without spaces; empty if it cannot be decompressed."""
    with path.open("rb") as file:
        try:
            start = (gzip.GzipFile(fileobj=file) if path.name.endswith(".gz") else file).read(START_BYTES)
        except (gzip.BadGzipFile, EOFError, zlib.error):
            return b""
    return start.removeprefix(b"\xef\xbb\xbf").lstrip()
