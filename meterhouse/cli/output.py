"""What commands print: data to standard output, as JSON lines or a table; everything else to standard error."""

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, datetime
from decimal import Decimal
from types import FrameType
from typing import Any

import click

from meterhouse import times


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
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    return value if value is None or isinstance(value, str | int | float) else str(value)


def dumps(value: Any) -> str:
    """A value as JSON on one line; lone surrogates, which no UTF-8 text holds, are replaced."""
    return json.dumps(plain(value), ensure_ascii=False).encode("utf-8", "replace").decode("utf-8")


def line(text: str) -> None:
    """Print a line of data; where the reader has seen enough (as `| head`), the command is done."""
    try:
        click.echo(text)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(0) from None


def rows(found: Sequence[Mapping[str, Any]], as_json: bool) -> None:
    """Print rows: one JSON object a line, or a table as wide as its values."""
    if as_json:
        for row in found:
            line(dumps(row))
        return
    if not found:
        click.echo("nothing found", err=True)
        return
    columns = list(found[0])
    cells = [[_cell(plain(row[name])) for name in columns] for row in found]
    numeric = [all(isinstance(row[name], int | float | None) for row in found) for name in columns]
    widths = [max(len(name), *(len(row[n]) for row in cells)) for n, name in enumerate(columns)]
    for cells_of_line in [columns, *cells]:
        padded = (
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(cells_of_line, widths, numeric, strict=True)
        )
        line("  ".join(padded).rstrip())


def figures(name: str, found: Mapping[str, Any], as_json: bool) -> None:
    """Print what a step did: one JSON object, or a line a figure."""
    if as_json:
        line(dumps(found))
        return
    width = max(len(key) for key in found)
    line(name)
    for key, value in found.items():
        line(f"  {key.replace('_', ' ').ljust(width)}  {_cell(plain(value))}")


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float):
        return f"{value:.10g}"
    if isinstance(value, dict | list):
        return json.dumps(value, ensure_ascii=False)
    return str(value)


def note(text: str) -> None:
    """Say something beside the data, on standard error."""
    click.echo(text, err=True)


@contextmanager
def progress(label: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on a terminal, nothing in a pipe. The block gets a function to call with (done, total)."""
    if not sys.stderr.isatty():
        yield lambda done, total: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=Console(stderr=True),
        transient=True,
    ) as bar:
        task = bar.add_task(label, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def ended_by_signal() -> Iterator[Callable[[], bool]]:
    """Give the block a function that says whether SIGTERM or SIGINT has asked it to end; a second one ends it at once.

    An exception out of a signal's handler could be lost: libraries turn it into errors of their own.
    """
    asked: list[int] = []

    def ask(number: int, frame: FrameType | None) -> None:
        asked.append(number)
        if len(asked) > 1:
            end()

    def end() -> None:
        if signal.SIGINT in asked:
            raise KeyboardInterrupt
        if asked:
            raise SystemExit(0)

    before = {number: signal.signal(number, ask) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    end()
