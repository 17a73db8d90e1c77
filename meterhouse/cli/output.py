"""What commands print: data to standard output (a table, JSON, CSV, bare values), everything else to standard error."""

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import click

from meterhouse import times
from meterhouse.cli import tables
from meterhouse.cli.tables import cells
from meterhouse.errors import UsageError
from meterhouse.untrusted import csv_cell, json_text, printable

Row = Mapping[str, Any]

FORMATS = ("table", "json", "csv", "value")


# -- values -------------------------------------------------------------------------------------------------


def plain(value: Any) -> Any:
    """A value for JSON: times as ISO 8601 with Z, numbers and texts as they are; what is not finite as text."""
    if isinstance(value, datetime):
        return times.text(value)
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, float) and value - value != 0:
        return str(value)
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | set):
        return [plain(inner) for inner in value]
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if value is None or isinstance(value, str | int | float):
        return value
    from decimal import Decimal

    if isinstance(value, Decimal) and value.is_finite():
        return int(value) if value == value.to_integral_value() else float(value)
    return str(value)


def dumps(value: Any) -> str:
    """A value as JSON on one line; lone surrogates, which no UTF-8 text holds, are replaced."""
    return json_text(_encodable(_json(plain(value))))


def _json(value: Any) -> str:
    import json

    return json.dumps(value, ensure_ascii=False)


def _encodable(text: str) -> str:
    return text.encode("utf-8", "replace").decode("utf-8")


def _text(value: Any) -> str:
    """A value as text, whole."""
    value = plain(value)
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict | list):
        return _json(value)
    return str(value)


def _cell(value: Any) -> str:
    """A value for a terminal: numbers in ten digits; without brackets what holds only simple values."""
    value = plain(value)
    if isinstance(value, float):
        return f"{value:.10g}"
    if not isinstance(value, dict | list):
        return printable(_text(value))
    inner = list(value.values()) if isinstance(value, dict) else value
    if any(isinstance(each, dict | list) for each in inner):
        return printable(_text(value))
    if isinstance(value, dict):
        return " ".join(f"{printable(key)}={_cell(each)}" for key, each in value.items())
    return ", ".join(map(_cell, inner))


# -- printing -----------------------------------------------------------------------------------------------


def line(text: str) -> None:
    """Print a line of data; if its reader has gone (as `| head` does), the command is done."""
    try:
        click.echo(text, color=True)  # without it click removes from the data what looks like a colour
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(0) from None


def note(text: str) -> None:
    """Print something about the data, in one line on standard error."""
    click.echo(printable(text), err=True)


@dataclass(frozen=True)
class Printer:
    """How a command prints its data.

    Attributes:
        format: one of FORMATS, or `lines` for JSON lines.
        known: the columns that the command's rows have; empty if its query decides.
        shown: those of them that a table, CSV and values have if the user chooses none; empty for all.
        whole: columns that are never shortened, because their values are needed to go on.
        prose: columns that are wrapped on a terminal instead of shortened.
        chosen: the columns that the user wants, in this order; empty for no choice.
        wide: print values whole on a terminal too.
    """

    format: str
    known: tuple[str, ...] = ()
    shown: tuple[str, ...] = ()
    whole: tuple[str, ...] = ()
    prose: tuple[str, ...] = ()
    chosen: tuple[str, ...] = ()
    wide: bool = False

    @property
    def is_json(self) -> bool:
        """Whether values keep their structure."""
        return self.format in ("json", "lines")

    def rows(self, found: Sequence[Row], known: Sequence[str] = ()) -> None:
        """Print rows.

        Args:
            found: the rows; those of one command have the same columns.
            known: their columns if the query decides; default those that the command declares.

        Raises:
            UsageError: a chosen column is not among them.
        """
        known = tuple(known) or self.known or tuple(dict.fromkeys(name for row in found for name in row))
        self._check(known)
        columns = self.chosen or self._shown(known)
        if self.is_json:
            self._json([{name: row.get(name) for name in self.chosen} if self.chosen else row for row in found])
        elif self.format == "csv":
            if columns:
                _csv([columns, *([row.get(name) for name in columns] for row in found)])
        elif self.format == "value":
            for row in found:
                line("\t".join(printable(_text(row.get(name))) for name in columns))
        elif not found:
            note("nothing found")
        else:
            for text in self._table(found, columns):
                line(text)

    def figures(self, name: str, found: Row) -> None:
        """Print what a step did, or what one thing is: a line a figure, or in another format one row.

        Args:
            name: the heading.
            found: the figures; one of them may hold further ones, or rows.

        Raises:
            UsageError: a chosen column is not among them.
        """
        if self.format != "table":
            self.rows([found])
            return
        self._check(self.known)
        columns = self.chosen or self._shown(tuple(found))
        line(printable(name))
        for text in self._list({key.replace("_", " "): found.get(key) for key in columns}, 2):
            line(text)

    def check(self, known: Sequence[str] = ()) -> None:
        """Check the chosen columns against those that there will be; default those that the command declares.

        Raises:
            UsageError: one is not among them.
        """
        self._check(known or self.known)

    def _check(self, known: Sequence[str]) -> None:
        for name in self.chosen:
            if known and name not in known:
                raise UsageError(f"unknown column '{name}'", where="--columns", hint=f"Known: {', '.join(known)}")

    def _shown(self, known: Sequence[str]) -> tuple[str, ...]:
        return tuple(name for name in self.shown if name in known) or tuple(known)

    def _json(self, found: Sequence[Row]) -> None:
        if self.format == "lines":
            for row in found:
                line(dumps(row))
        elif not found:
            line("[]")
        else:
            for place, row in enumerate(found):
                end = "]" if place == len(found) - 1 else ","
                line(f"{' ' if place else '['}{dumps(row)}{end}")

    def _table(self, found: Sequence[Row], columns: Sequence[str], indent: int = 0) -> Iterator[str]:
        """The lines of a table: in a pipe it is whole, on a terminal it fits."""
        room = None if self.wide or not sys.stdout.isatty() else max(_terminal_width() - indent, 1)
        made, left_out = tables.lines([self._column(name, found) for name in columns], room)
        yield from (" " * indent + text for text in made)
        if left_out:
            count = f"{len(left_out)} columns do" if len(left_out) > 1 else "1 column does"
            note(f"{count} not fit: {', '.join(left_out)}. --wide shows all, --columns those that you name")

    def _column(self, name: str, found: Sequence[Row]) -> tables.Column:
        values = [row.get(name) for row in found]
        there = [value for value in values if value is not None]
        kind: tables.Kind = "text"
        if name in self.prose:
            kind = "prose"
        elif name in self.whole:
            kind = "whole"
        elif all(map(_is_number, there)):
            kind = "number"
        elif all(isinstance(value, date) for value in there):
            kind = "time"
        return tables.Column(printable(name), list(map(_cell, values)), kind)

    def _list(self, found: Row, indent: int) -> Iterator[str]:
        """A line a figure; figures and rows that it holds itself are below it, further in."""
        margin = " " * indent
        names = {key: printable(key) for key in found}
        width = max(map(cells, names.values()), default=0)
        for key, value in found.items():
            if value and isinstance(value, Mapping):
                yield f"{margin}{names[key]}"
                yield from self._list(value, indent + 2)
            elif value and isinstance(value, list) and all(isinstance(each, Mapping) for each in value):
                yield f"{margin}{names[key]}"
                yield from self._table(value, list(dict.fromkeys(name for row in value for name in row)), indent + 2)
            else:
                yield f"{margin}{names[key]}{' ' * (width - cells(names[key]))}  {_cell(value)}".rstrip()


def _is_number(value: Any) -> bool:
    if isinstance(value, int | float):
        return not isinstance(value, bool)
    if isinstance(value, str | date | Mapping | list):
        return False
    from decimal import Decimal

    return isinstance(value, Decimal)


def _terminal_width() -> int:
    import shutil

    return shutil.get_terminal_size().columns


def _csv(found: Sequence[Sequence[Any]]) -> None:
    """Print rows as CSV (RFC 4180, but with line feeds). On a terminal, escapes stand for what is not printable."""
    import csv
    import io

    on_terminal = sys.stdout.isatty()
    for row in found:
        buffer = io.StringIO()
        values = [csv_cell(_encodable(_text(value))) for value in row]
        csv.writer(buffer).writerow(map(printable, values) if on_terminal else values)
        line(buffer.getvalue().removesuffix("\r\n"))
