"""Reports as files: a SQL query each, with a head of comments that says what it answers.

Ours are in `sql/warehouse/reports/`, those of a site in the folder `reports/` of METERHOUSE_CONFIG_DIR. The first line
of a file is the question, `-- Who has volumes that nothing uses?`. Further lines of comment describe the answer, and
`-- partition: month` lets it be exported by month instead of by day.

Listing them needs no database and no pathlib: the command line completes their names.
"""

import os
import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cached_property
from typing import Final, Literal, cast

from meterhouse import sql_files, times
from meterhouse.errors import DefinitionError
from meterhouse.queries.sql_tokens import TOKEN

FOLDER: Final = "warehouse/reports"
"""The folder of ours, below `sql/`."""

OWN_FOLDER: Final = "reports"
"""The folder of a site's own, in METERHOUSE_CONFIG_DIR."""

PARAMETERS: Final = ("start", "end", "days_from", "days_to", "before")
"""What a query may refer to.

A half-open span; the whole days, UTC, within it, both `:end` if there are none; and the start of the span of the same
length before it.
"""

MAX_BYTES: Final = 1 << 20

TAKEN: Final = frozenset(
    {
        *("notifications", "samples", "events", "catalog", "redefined_samples", "redefined_events"),
        *("sample_quality", "rollups", "good_points", "alarm_evaluations", "webhooks", "archive"),
        *("polled_samples", "resource_periods", "reconciliation", "resource_names", "bills"),
    }
)
"""Names that other assets have; a test holds them complete."""

Partition = Literal["day", "month"]

_ALL: Final = re.compile(r"(?:\bSELECT(?:\s+DISTINCT)?\s+|\.|,\s*)\*", re.IGNORECASE)
_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,62}")


@dataclass(frozen=True)
class Report:
    """A report's file.

    Attributes:
        name: the file's name without `.sql`.
        query: the file's text.
        file: its path if it is one of the site's own; empty for ours.
        fault: why it cannot be run, and in which line from 1; None if nothing is known to stop it.
    """

    name: str
    query: str
    file: str = ""
    fault: tuple[int, str] | None = None

    @property
    def is_own(self) -> bool:
        """Whether it is one of the site's own: not to be trusted with more than reading."""
        return bool(self.file)

    @cached_property
    def head(self) -> list[str]:
        """The comments with which the file starts, without their dashes."""
        found = []
        for line in self.query.splitlines():
            if not line.startswith("--"):
                break
            found.append(line.removeprefix("--").strip())
        return found

    @property
    def question(self) -> str:
        """The question that it answers."""
        return self.head[0] if self.head else ""

    @property
    def description(self) -> list[str]:
        """What the file says of the answer, a paragraph a line."""
        return [line for line in self.head[1:] if not _header(line)]

    @property
    def partition(self) -> Partition:
        """By what it is exported."""
        for line in self.head:
            if (header := _header(line)) and header[1] == "month":
                return cast(Partition, header[1])
        return "day"

    @cached_property
    def words(self) -> frozenset[str]:
        """The names in the query, in small letters, without those in comments and texts: also those of its tables."""
        return frozenset(
            (found["word"] or found["identifier"]).lower()
            for found in TOKEN.finditer(self.query)
            if found["word"] or found["identifier"]
        )

    @cached_property
    def parameters(self) -> frozenset[str]:
        """What the query refers to as `:NAME`, outside comments and texts."""
        return frozenset(found[0][1:] for found in TOKEN.finditer(self.query) if found.lastgroup == "parameter")

    @cached_property
    def selects_all(self) -> bool:
        """Whether the query may select all columns of a table."""
        return _ALL.search(self.query) is not None

    def checked(self) -> "Report":
        """The report itself.

        Raises:
            DefinitionError: it cannot be run; with file, line and reason.
        """
        if self.fault:
            line, reason = self.fault
            raise self.error(reason, line)
        return self

    def error(self, reason: str, line: int = 0) -> DefinitionError:
        """An error of this file."""
        where = self.file or f"sql/{FOLDER}/{self.name}.sql"
        return DefinitionError(reason, where=f"{where}:{line}" if line else where, hint=_HINT)


_HINT: Final = "See docs/reports.md on a report of your own"


def ours() -> dict[str, Report]:
    """Our reports, by name."""
    return {name: Report(name, sql_files.read(f"{FOLDER}/{name}.sql")) for name in sql_files.names(FOLDER)}


def listed(config_dir: "os.PathLike[str] | str | None") -> dict[str, Report]:
    """Our reports and a site's own, by name in order; those that cannot be run have a fault.

    One with the name of one of ours or of an asset is listed as `NAME.sql`.
    """
    found = ours()
    if config_dir is None:
        return found
    folder = os.path.join(config_dir, OWN_FOLDER)
    try:
        files = sorted(name for name in os.listdir(folder) if name.endswith(".sql") and not name.startswith("."))
    except (FileNotFoundError, NotADirectoryError):
        return found
    except OSError as error:
        reason = f"the folder cannot be read: {error.strerror}"
        return {**found, OWN_FOLDER: Report(OWN_FOLDER, "", folder, (0, reason))}
    for file in files:
        report = _own(os.path.join(folder, file), file.removesuffix(".sql"), found)
        found[report.name if report.name not in found else file] = report
    return dict(sorted(found.items()))


def is_name(name: str) -> bool:
    """Whether a report can have this name."""
    return _NAME.fullmatch(name) is not None


def partition_of(partition: Partition, day: date) -> tuple[str, datetime, datetime]:
    """The key and the span, UTC, of the day or month in which a day is."""
    if partition == "day":
        return str(day), times.day_start(day), times.day_start(day) + times.DAY
    first = day.replace(day=1)
    following = (first + timedelta(days=31)).replace(day=1)
    return f"{first:%Y-%m}", times.day_start(first), times.day_start(following)


def before(start: datetime, end: datetime) -> datetime:
    """The start of the span of the same length before [start, end); both aware. No time is before the year 1."""
    length = end - start
    return max(datetime.min.replace(tzinfo=UTC) + length, start) - length


def _own(path: str, name: str, others: dict[str, Report]) -> Report:
    try:
        with open(path, "rb") as file:
            content = file.read(MAX_BYTES + 1)
        text = content.decode("utf-8-sig").replace("\r\n", "\n")
    except OSError as error:
        return Report(name, "", path, (0, f"the file cannot be read: {error.strerror}"))
    except UnicodeDecodeError:
        return Report(name, "", path, (0, "the file is not UTF-8"))
    if len(content) > MAX_BYTES:
        return Report(name, "", path, (0, f"the file is larger than {MAX_BYTES >> 20} MiB"))
    if not is_name(name):
        return Report(
            name, text, path, (0, "a report's file is named in small letters, digits and _, such as idle.sql")
        )
    if name in others or name in TAKEN:
        what = "a report of Meterhouse" if name in others else "an asset"
        return Report(name, text, path, (0, f"'{name}' is the name of {what} already: rename the file"))
    return Report(name, text, path, _fault(text))


def _fault(text: str) -> tuple[int, str] | None:
    """What is wrong with a query, and its line from 1."""
    first, *rest = text.splitlines() or [""]
    if not first.startswith("--") or not first.removeprefix("--").strip():
        return 1, "the first line has to be the question, such as `-- Who has idle volumes?`"
    for number, line in enumerate(rest, 2):
        if not line.startswith("--"):
            break
        header = _header(line.removeprefix("--").strip())
        if header and header[1] not in ("day", "month"):
            return number, f"partition is day or month, not '{header[1]}'"
    started, over = False, False
    for token in TOKEN.finditer(text):
        kind = token.lastgroup
        if kind == "comment" or (kind == "other" and token[0].isspace()):
            continue
        number = text.count("\n", 0, token.start()) + 1
        if over and kind != "end":
            return number, "a report is one statement: nothing may follow the semicolon"
        if not started and token[0] != "(":
            if token[0].upper() not in ("SELECT", "WITH"):
                return number, "a report only reads: it has to start with SELECT or WITH"
            started = True
        over = over or kind == "end"
        if kind == "parameter" and token[0][1:] not in PARAMETERS:
            known = ", ".join(f":{each}" for each in PARAMETERS)
            return number, f"unknown parameter {token[0]}; there are {known}"
    return None if started else (1, "the file has no query")


def _header(line: str) -> tuple[str, str] | None:
    """`partition: VALUE` as key and value; None for another line."""
    key, colon, value = line.partition(":")
    return ("partition", value.strip().lower()) if colon and key.strip().lower() == "partition" else None
