"""Commands of corrections: delete, replace, accept, list, show, points, revoke."""

import functools
import getpass
import sys
from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

import click

from meterhouse.cli.groups import ListsByDefault
from meterhouse.cli.options import TIMES, Checked, Instant, limit, prints
from meterhouse.cli.output import Printer
from meterhouse.cli.progress import progress

if TYPE_CHECKING:
    from meterhouse.corrections.changing import Reach
    from meterhouse.corrections.recorded import Correction
    from meterhouse.site import Site

F = TypeVar("F", bound=Callable[..., Any])

_COLUMNS = (
    *("id", "action", "meter", "from", "to", "where", "volume", "factor", "reason", "author", "recorded_at", "points"),
    *("state", "revoked_at", "revoked_by", "revoked_reason"),
)
_PAST = {"delete": "deleted", "replace": "replaced", "accept": "accepted"}
_DONE = ("id", "action", "meter", "from", "to", "where", "volume", "factor", "points", "hours", "dry_run")


@click.group("correct", cls=ListsByDefault)
def correct() -> None:
    """Delete, replace or accept points of a meter, with a reason; without a command, list what was corrected.

    Samples stay in the lake as they were landed, and a correction can be revoked. It holds for points that come later,
    too, whether late, loaded or converted again.
    """


def _condition(text: str) -> str:
    from meterhouse.corrections.recorded import FIELDS
    from meterhouse.filters import parse

    parse(text, FIELDS)
    return text


def _text(text: str) -> str:
    from meterhouse.errors import UsageError

    if not text.strip():
        raise UsageError("it is empty")
    return text


def _signed(command: F) -> F:
    """Why, and by whom."""
    command = click.option("--author", type=Checked("author", _text, ()), help="Who; default your login name.")(command)
    return click.option("--reason", required=True, type=Checked("reason", _text, ()), help="Why.")(command)


def _corrects(command: Callable[..., Any]) -> Callable[..., Any]:
    """What all corrections take."""

    @functools.wraps(command)
    def run(*args: Any, start: datetime, end: datetime, **options: Any) -> Any:
        if start >= end:
            raise click.UsageError("the span is empty: --to is not after --from")
        return command(*args, start=start, end=end, **options)

    for option in (
        click.option("--dry-run", is_flag=True, help="Only print how many points in how many hours it would change."),
        click.option("--yes", is_flag=True, help="Do not ask on a terminal."),
        click.option(
            "--where",
            "condition",
            type=Checked("condition", _condition, ()),
            help="Only points that meet this condition on resource, project, user, source, type, unit and volume.",
        ),
        click.option("--to", "end", required=True, type=Instant(), help="End, exclusive."),
        click.option("--from", "start", required=True, type=Instant(), help=f"Start, inclusive: {TIMES}."),
        click.argument("meter"),
    ):
        run = option(run)
    return prints(*_DONE)(_signed(run))


@correct.command()
@_corrects
def delete(**options: Any) -> None:
    """Delete METER's points of a span: they do not count, nor are they listed."""
    _record("delete", **options)


@correct.command()
@click.option("--volume", type=float, help="The volume that the points get.")
@click.option("--factor", type=float, help="What their volumes are multiplied by.")
@_corrects
def replace(volume: float | None, factor: float | None, **options: Any) -> None:
    """Replace the volumes of METER's points of a span. The quality rules judge the new volumes.

    Give --volume or --factor.
    """
    if (volume is None) == (factor is None):
        raise click.UsageError("give --volume or --factor")
    _record("replace", volume=volume, factor=factor, **options)


@correct.command()
@_corrects
def accept(**options: Any) -> None:
    """Accept METER's points of a span that a critical rule excludes: they count.

    What no sum can hold stays excluded, and so do superseded points.
    """
    _record("accept", **options)


def _record(
    action: Any,
    *,
    meter: str,
    start: datetime,
    end: datetime,
    condition: str | None,
    reason: str,
    author: str | None,
    dry_run: bool,
    yes: bool,
    printer: Printer,
    volume: float | None = None,
    factor: float | None = None,
) -> None:
    from meterhouse.corrections.changing import propose, record
    from meterhouse.site import Site

    site, author = Site.open(), author or _login_name()
    with progress("reading samples"):
        found = propose(site, action, meter, start, end, condition=condition or "", volume=volume, factor=factor)
    if not (dry_run or yes) and sys.stdin.isatty():
        click.confirm(f"{action} {found.points:,} points in {len(found.hours):,} hours?", abort=True, err=True)
    if not dry_run:
        with progress("recording the correction"):
            found = record(site, found.correction, reason=reason, author=author)
    _print(printer, f"would {action}" if dry_run else _PAST[action], found, dry_run=dry_run)


def _login_name() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        raise click.UsageError("you have no login name: give --author") from None


def _print(printer: Printer, what: str, found: "Reach", *, dry_run: bool = False) -> None:
    row = {**_row(found.correction), "points": found.points, "hours": len(found.hours), "dry_run": dry_run}
    printer.figures(what, {name: row[name] for name in _DONE})


def _row(one: "Correction") -> dict[str, Any]:
    row = {**vars(one), "id": one.correction_id, "from": one.start_at, "to": one.end_at, "where": one.condition or None}
    return {name: row.get(name) for name in _COLUMNS} | {"state": "active" if one.is_active else "revoked"}


@correct.command("list")
@prints(*_COLUMNS, shown=("id", "state", "action", "meter", "from", "to", "where", "points", "author", "reason"))
def list_corrections(printer: Printer) -> None:
    """List all corrections, the oldest first, revoked ones too."""
    from meterhouse.corrections.recorded import recorded
    from meterhouse.site import Site

    printer.rows([_row(one) for one in recorded(Site.open())])


@correct.command()
@click.argument("correction_id", metavar="ID", type=int)
@prints(*_COLUMNS)
def show(correction_id: int, printer: Printer) -> None:
    """Show the correction ID: what it changes, why, and who has recorded it."""
    printer.figures(f"correction {correction_id}", _row(_found(correction_id)[1]))


@correct.command()
@click.argument("correction_id", metavar="ID", type=int)
@limit
@prints(
    *("timestamp", "volume", "becomes", "unit", "resource_id", "project_id", "user_id", "type", "source"),
    "recorded_at",
)
def points(correction_id: int, limit: int, printer: Printer) -> None:
    """List the points that the correction ID changes, by time: their volume without it, and what it becomes.

    A deleted point becomes nothing. Of a revoked correction, these are the points that it would change.
    """
    from meterhouse.corrections.changing import changed_points

    site, one = _found(correction_id)
    with progress("reading samples"):
        found = changed_points(site, one, limit).to_pylist()
    printer.rows(found)


def _found(correction_id: int) -> "tuple[Site, Correction]":
    from meterhouse.corrections.recorded import find
    from meterhouse.site import Site

    site = Site.open()
    return site, find(site, correction_id)


@correct.command()
@click.argument("correction_id", metavar="ID", type=int)
@_signed
@prints(*_DONE)
def revoke(correction_id: int, reason: str, author: str | None, printer: Printer) -> None:
    """Revoke the correction ID: its points count as they did before, but for other corrections."""
    from meterhouse.corrections.changing import revoke as take_back
    from meterhouse.site import Site

    with progress("revoking the correction"):
        found = take_back(Site.open(), correction_id, reason=reason, author=author or _login_name())
    _print(printer, "revoked", found)
