"""Options and argument types that commands share."""

from collections.abc import Callable
from datetime import date, datetime
from typing import Any, TypeVar

import click

from meterhouse import times
from meterhouse.errors import MeterhouseError

F = TypeVar("F", bound=Callable[..., Any])


class Instant(click.ParamType[datetime]):
    """An ISO 8601 instant; UTC where it names no offset."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        if isinstance(value, datetime):
            return value
        try:
            return times.parse(value)
        except MeterhouseError as error:
            self.fail(str(error), param, ctx)


class Day(click.ParamType[date]):
    """A day, `YYYY-MM-DD`, UTC."""

    name = "day"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> date:
        if isinstance(value, date):
            return value
        try:
            return times.parse_day(value)
        except MeterhouseError as error:
            self.fail(str(error), param, ctx)


as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON lines.")
limit = click.option("--limit", type=click.IntRange(1, 10_000_000), default=100, show_default=True, help="Most rows.")


def span(command: F) -> F:
    """`--from` (inclusive) and `--to` (exclusive)."""
    command = click.option("--to", "end", type=Instant(), help="End, exclusive; ISO 8601, UTC.")(command)
    return click.option("--from", "start", type=Instant(), help="Start, inclusive; ISO 8601, UTC.")(command)


query = click.option(
    "-q",
    "--query",
    "query",
    type=(str, str, str),
    metavar="FIELD OP VALUE",
    multiple=True,
    help="A condition, such as `-q resource_id eq UUID`; several are all to hold. OP: eq ne lt le gt ge.",
)
