"""Options and argument types that commands share."""

import functools
import os
from collections.abc import Callable, Sequence
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click
from click.shell_completion import CompletionItem

from meterhouse import times
from meterhouse.cli.output import FORMATS, Printer
from meterhouse.errors import UnknownKeyword, UsageError

if TYPE_CHECKING:
    from meterhouse.filters import Condition, Fields, Filter

F = TypeVar("F", bound=Callable[..., Any])

TIMES = "ISO 8601 (UTC), now, today, yesterday, or a time ago: -90m, -12h, -2d, -1w"


# -- types --------------------------------------------------------------------------------------------------


class Instant(click.ParamType[datetime]):
    """A time, as `times.parse` reads it."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        if isinstance(value, datetime):
            return value
        try:
            return times.parse(value, _now(ctx))
        except UsageError as error:
            self.fail(str(error), param, ctx)


def _now(ctx: click.Context | None) -> datetime:
    """One present instant for all of a command's times: `--from -1d --to -1d` is an empty span."""
    return times.now() if ctx is None else ctx.meta.setdefault("meterhouse.now", times.now())


class Day(click.ParamType[date]):
    """A day, as `times.parse_day` reads it."""

    name = "day"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> date:
        if isinstance(value, date):
            return value
        try:
            return times.parse_day(value)
        except UsageError as error:
            self.fail(str(error), param, ctx)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return _completions(list(times.DAYS_AGO), incomplete)


class Month(click.ParamType[date]):
    """A month as its first day."""

    name = "month"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> date:
        if isinstance(value, date):
            return value
        try:
            return times.parse_day(f"{value.strip()}-01")
        except UsageError:
            self.fail(f"'{value}' is not a month. Write YYYY-MM", param, ctx)


class Seconds(click.FloatRange):
    """A span of time in seconds: more than 0, at most a year."""

    name = "number"

    def __init__(self) -> None:
        super().__init__(0, 366 * 86_400, min_open=True)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        seconds = super().convert(value, param, ctx)
        if seconds != seconds:  # not a number passes every comparison of the range
            self.fail(f"{value} is not a number", param, ctx)
        return seconds


class Name(click.ParamType[str]):
    """One of the names that the code has, such as those of reports.

    Args:
        kind: what they name.
        known: lists them.
    """

    def __init__(self, kind: str, known: Callable[[], list[str]]) -> None:
        self.name = kind
        self._known = known

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        known = self._known()
        if value not in known:
            raise UnknownKeyword(self.name, value, known)
        return str(value)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return _completions(self._known(), incomplete)


def config_dir() -> str | None:
    """The configuration folder of the site whose command this is. The settings are not read: completion is quick."""
    return os.environ.get("METERHOUSE_CONFIG_DIR") or None


class Checked(click.ParamType[Any]):
    """A text that a function checks, and may change into something else.

    Args:
        kind: what it is.
        check: raises UsageError if it does not fit.
        known: some that fit.
    """

    def __init__(self, kind: str, check: Callable[[str], Any], known: Sequence[str]) -> None:
        self.name, self._check, self._known = kind, check, known

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return self._check(value)
        except UnknownKeyword:
            raise
        except UsageError as error:
            self.fail(str(error), param, ctx)

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        return _completions(self._known, incomplete)


class _Columns(click.ParamType[tuple[str, ...]]):
    """Names of columns, separated by commas."""

    name = "names"

    def __init__(self, known: Sequence[str]) -> None:
        self._known = known

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        if isinstance(value, tuple):
            return value
        columns = tuple(dict.fromkeys(name.strip() for name in value.split(",")))
        if "" in columns:
            self.fail("write names of columns, separated by commas", param, ctx)
        return columns

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        chosen = "".join(incomplete.rpartition(",")[:2])
        return _completions([f"{chosen}{name}" for name in self._known], incomplete)


def _completions(known: Sequence[str], incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(name) for name in known if name.startswith(incomplete)]


# -- options ------------------------------------------------------------------------------------------------

as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON lines: one object a line.")

limit = click.option(
    "--limit", type=click.IntRange(1, 10_000_000), default=100, show_default=True, help="Maximum number of rows."
)


def span(*, to_alone: bool = True) -> Callable[[F], F]:
    """`--from` (inclusive) and `--to` (exclusive). `--from` alone means until now.

    Args:
        to_alone: whether the command can do without a start.
    """

    def decorate(command: F) -> F:
        @functools.wraps(command)
        def run(*args: Any, start: datetime | None, end: datetime | None, **options: Any) -> Any:
            if start is None and end is not None and not to_alone:
                raise click.UsageError("--to needs a --from")
            if start is not None:
                until = end or _now(click.get_current_context())
                if start >= until:
                    given = "--to" if end else "now"
                    raise click.UsageError(f"the span is empty: {given} is not after --from, {times.text(start)}")
                end = until
            return command(*args, start=start, end=end, **options)

        return _with_options(
            run,
            click.option("--from", "start", type=Instant(), help=f"Start, inclusive: {TIMES}."),
            click.option("--to", "end", type=Instant(), help="End, exclusive; default now if --from is given."),
        )

    return decorate


def query(fields: "Fields") -> Callable[[F], F]:
    """`-q FIELD OP VALUE` and `--where CONDITION`, on fields of one kind of thing.

    The command gets a list of conditions as `query`; all of them have to hold.
    """

    from meterhouse.filters import OPERATORS, Filter, names, parse

    def comparisons(
        ctx: click.Context, param: click.Parameter, given: Sequence[tuple[str, str, str]]
    ) -> "list[Filter]":
        return [Filter(*each, fields) for each in given]

    def condition(ctx: click.Context, param: click.Parameter, given: str | None) -> "list[Condition]":
        return [] if given is None else [parse(given, fields)]

    def decorate(command: F) -> F:
        @functools.wraps(command)
        def run(*args: Any, query: "list[Condition]", where: "list[Condition]", **options: Any) -> Any:
            return command(*args, query=[*query, *where], **options)

        return _with_options(
            run,
            click.option(
                "-q",
                "--query",
                "query",
                type=(str, str, str),
                metavar="FIELD OP VALUE",
                multiple=True,
                callback=comparisons,
                help="A condition. Repeat it to combine conditions; all must match. "
                f"FIELD: {', '.join(names(fields))}. OP: {', '.join(OPERATORS)}.",
            ),
            click.option(
                "--where",
                metavar="CONDITION",
                callback=condition,
                help="Conditions on the same fields, joined by and, or, not: FIELD = VALUE (or !=, <, <=, >, >=, =~, "
                "!~), FIELD in (VALUE, VALUE). It must match too.",
            ),
        )

    return decorate


def prints(
    *known: str, shown: Sequence[str] = (), whole: Sequence[str] = (), prose: Sequence[str] = ()
) -> Callable[[F], F]:
    """The options of all commands that print rows or figures; the command gets a `Printer` as `printer`.

    Args:
        known: the columns of the rows, or the names of the figures; none if the query decides.
        shown: those that a table has, in this order, if the user chooses none; default all.
        whole: columns that are never shortened, because their values are needed to go on.
        prose: columns that are wrapped on a terminal instead of shortened.
    """

    def decorate(command: F) -> F:
        @functools.wraps(command)
        def run(
            *args: Any, format: str | None, as_json: bool, columns: tuple[str, ...] | None, wide: bool, **options: Any
        ) -> Any:
            if as_json and format is not None:
                raise click.UsageError("--json prints JSON lines: give it or --format, not both")
            how = "lines" if as_json else format or "table"
            printer = Printer(how, known, tuple(shown), tuple(whole), tuple(prose), columns or (), wide)
            printer.check()
            return command(*args, printer=printer, **options)

        return _with_options(
            run,
            click.option(
                "--format",
                type=click.Choice(FORMATS),
                help="How to print; default a table. json: one array. value: values alone, separated by tabs.",
            ),
            as_json,
            click.option("--columns", type=_Columns(known), help="Columns to print, separated by commas."),
            click.option("--wide", is_flag=True, help="Print whole values, whatever the terminal's width."),
        )

    return decorate


def _with_options(command: Callable[..., Any], *options: Callable[[F], F]) -> F:
    decorated = cast(F, command)
    for option in reversed(options):
        decorated = option(decorated)
    return decorated
