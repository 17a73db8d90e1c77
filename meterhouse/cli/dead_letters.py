"""Commands of dead letters: list, retry, purge."""

import base64
from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

import click

from meterhouse.cli.groups import ListsByDefault
from meterhouse.cli.options import limit, prints, span
from meterhouse.cli.output import Printer, note, plain
from meterhouse.cli.progress import progress
from meterhouse.untrusted import printable

if TYPE_CHECKING:
    from meterhouse.dead_letters import Selection

F = TypeVar("F", bound=Callable[..., Any])

SHOWN_BYTES = 80
REASONS_SHOWN = 10

WAIT_SECONDS = 20.0
"""How long to wait for a collector that converts."""


class LetterId(click.ParamType[int]):
    """A letter's id, as `list` prints it."""

    name = "id"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        if len(value) != 16 or set(value.lower()) - set("0123456789abcdef"):
            self.fail(f"'{value}' is not 16 hex digits, as `meterhouse dead-letters` shows them", param, ctx)
        return int.from_bytes(bytes.fromhex(value), signed=True)


def _globs(command: F) -> F:
    command = click.option("--reason", help="Only those with this reason; a glob, such as '*signature*'.")(command)
    return click.option("--queue", help="Only those from this queue, or file and line; a glob.")(command)


def _chosen(command: F) -> F:
    """What selects letters to be changed: at least one of these has to be given."""
    command = click.option("--all", "all_of_them", is_flag=True, help="All dead letters.")(span()(command))
    return click.argument("ids", metavar="[ID]...", type=LetterId(), nargs=-1)(_globs(command))


def _selection(
    ids: tuple[int, ...],
    queue: str | None,
    reason: str | None,
    start: datetime | None,
    end: datetime | None,
    all_of_them: bool,
) -> "Selection":
    from meterhouse.dead_letters import Selection

    narrowed = bool(ids) or any(given is not None for given in (queue, reason, start, end))
    if narrowed == all_of_them:
        raise click.UsageError("give IDs, --queue, --reason, --from or --to; or --all, and none of these")
    return Selection(ids, queue, reason, start, end)


@click.group("dead-letters", cls=ListsByDefault)
def dead_letters() -> None:
    """Messages, rows and samples that could not be used; without a command, list them."""


@dead_letters.command("list")
@_globs
@span()
@limit
@prints(
    *("id", "letter_id", "received_at", "queue", "reason", "headers", "body", "body_base64"),
    shown=("id", "received_at", "queue", "reason", "headers", "body"),
    whole=("id",),  # as `retry` and `purge` take it
)
def list_letters(
    queue: str | None, reason: str | None, start: datetime | None, end: datetime | None, limit: int, printer: Printer
) -> None:
    """List dead letters, newest first, with the reason.

    --from and --to select by the time of arrival. JSON has the whole body in `body`, or in `body_base64` if it is not
    UTF-8. A table has its first 80 bytes, or all of it with --wide.
    """
    from meterhouse.dead_letters import Selection, find
    from meterhouse.site import Site

    with progress("reading dead letters"):
        found = find(Site.open().lake, Selection((), queue, reason, start, end), limit)
    if printer.is_json:
        found = [_whole(row) for row in found]
    elif printer.format == "table" and not printer.wide:
        found = [{**row, "body": _short(row["body"])} for row in found]
    printer.rows(found)


def _whole(row: dict[str, Any]) -> dict[str, Any]:
    body: bytes = row.pop("body")
    try:
        return {**row, "body": body.decode("utf-8")}
    except UnicodeDecodeError:
        return {**row, "body_base64": base64.b64encode(body).decode()}


def _short(body: bytes) -> str:
    return printable(plain(body[:SHOWN_BYTES])) + ("…" if len(body) > SHOWN_BYTES else "")


@dead_letters.command()
@_chosen
@prints(
    *("letters", "landed", "known", "removed", "kept", "reasons"),
    *("samples", "events", "conversion_errors", "unsigned_samples", "late_points"),
)
def retry(
    ids: tuple[int, ...],
    queue: str | None,
    reason: str | None,
    start: datetime | None,
    end: datetime | None,
    all_of_them: bool,
    printer: Printer,
) -> None:
    """Retry dead letters after a fix. Those that can be used now are collected, the others stay.

    What is landed is converted and cataloged, as by `collect`. Nothing is landed twice, even if you stop this or call
    it again. A collector may run at the same time.
    """
    from meterhouse.catalog import catalog
    from meterhouse.collection.dead_letter_retry import retry as try_again
    from meterhouse.configuration import open_checked
    from meterhouse.conversion.step import convert
    from meterhouse.errors import Conflict

    selection = _selection(ids, queue, reason, start, end, all_of_them)
    site = open_checked()
    with progress("retrying dead letters") as tell:
        retried = try_again(site, selection, progress=tell)
    done = {**asdict(retried), "reasons": dict(retried.reasons.most_common(REASONS_SHOWN))}
    try:
        converted, catalogued = convert(site, wait_seconds=WAIT_SECONDS), catalog(site)
        done["samples"], done["events"] = converted.samples, converted.events
        done["conversion_errors"], done["unsigned_samples"] = converted.errors, converted.unsigned
        done["late_points"] = catalogued.late
    except Conflict as error:  # which does the same for what was landed here
        note(f"meterhouse: {error}")
    printer.figures("retried", done)


@dead_letters.command()
@_chosen
@click.option("--dry-run", is_flag=True, help="Only print how many there are, of how many bytes, from when to when.")
@prints("letters", "bytes", "oldest", "newest", "dry_run")
def purge(
    ids: tuple[int, ...],
    queue: str | None,
    reason: str | None,
    start: datetime | None,
    end: datetime | None,
    all_of_them: bool,
    dry_run: bool,
    printer: Printer,
) -> None:
    """Delete dead letters. This cannot be undone."""
    from meterhouse.dead_letters import purge as delete
    from meterhouse.site import Site

    selection = _selection(ids, queue, reason, start, end, all_of_them)
    with progress("deleting dead letters"):
        found = asdict(delete(Site.open(), selection, dry_run=dry_run))
    printer.figures("would purge" if dry_run else "purged", {**found, "dry_run": dry_run})
