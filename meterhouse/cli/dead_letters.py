"""Commands of dead letters: list, retry, purge."""

import base64
from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

import click

from meterhouse.cli import output
from meterhouse.cli.options import as_json, limit, span

if TYPE_CHECKING:
    from meterhouse.dead_letters import Selection

F = TypeVar("F", bound=Callable[..., Any])

SHOWN_BYTES = 80
REASONS_SHOWN = 10

WAIT_SECONDS = 20.0
"""How long to wait for a collector that converts."""


class LetterId(click.ParamType[int]):
    """A letter's id, as `list` shows it."""

    name = "id"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        if len(value) != 16 or set(value.lower()) - set("0123456789abcdef"):
            self.fail(f"'{value}' is not 16 hex digits, as `meterhouse dead-letters` shows them", param, ctx)
        return int.from_bytes(bytes.fromhex(value), signed=True)


def _globs(command: F) -> F:
    command = click.option("--reason", help="Only those with such a reason; a glob, such as '*signature*'.")(command)
    return click.option("--queue", help="Only those that came by such a queue, or file and line; a glob.")(command)


def _chosen(command: F) -> F:
    """What selects letters to be changed: at least one of these has to be given."""
    command = click.option("--all", "all_of_them", is_flag=True, help="All that there are.")(span(command))
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
        raise click.UsageError("give IDs, --queue, --reason, --from or --to; or --all, and nothing of these")
    return Selection(ids, queue, reason, start, end)


class _ListsUnlessTold(click.Group):
    """A group that lists where no command of it is named."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if not args or (args[0].startswith("-") and args[0] not in ctx.help_option_names):
            args = ["list", *args]
        return super().parse_args(ctx, args)


@click.group("dead-letters", cls=_ListsUnlessTold)
def dead_letters() -> None:
    """Messages, rows and samples that could not be used; without a command, list them."""


@dead_letters.command("list")
@_globs
@span
@limit
@as_json
def list_letters(
    queue: str | None, reason: str | None, start: datetime | None, end: datetime | None, limit: int, as_json: bool
) -> None:
    """List dead letters, newest first, with the reason.

    --from and --to are about when they came. With --json the whole body is in `body`, or in `body_base64` where it is
    not UTF-8.
    """
    from meterhouse.dead_letters import Selection, find
    from meterhouse.site import Site

    found = find(Site.open().lake, Selection((), queue, reason, start, end), limit)
    if as_json:
        output.rows([_whole(row) for row in found], as_json)
    else:
        output.rows([_short(row) for row in found], as_json)


def _whole(row: dict[str, Any]) -> dict[str, Any]:
    body: bytes = row.pop("body")
    try:
        return {**row, "body": body.decode("utf-8")}
    except UnicodeDecodeError:
        return {**row, "body_base64": base64.b64encode(body).decode()}


def _short(row: dict[str, Any]) -> dict[str, Any]:
    """A row for a terminal, on which whoever wrote the message must not have a say."""
    body = row["body"][:SHOWN_BYTES].decode("utf-8", "backslashreplace")
    return {
        "id": row["id"],
        "received_at": row["received_at"],
        **{name: _printable(row[name] or "") for name in ("queue", "reason", "headers")},
        "body": _printable(body) + ("…" if len(row["body"]) > SHOWN_BYTES else ""),
    }


def _printable(text: str) -> str:
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


@dead_letters.command()
@_chosen
@as_json
def retry(
    ids: tuple[int, ...],
    queue: str | None,
    reason: str | None,
    start: datetime | None,
    end: datetime | None,
    all_of_them: bool,
    as_json: bool,
) -> None:
    """Try dead letters again after a fix; those that can be used now are collected, the others stay.

    What is landed is converted and followed in the catalog, as by `collect`. Nothing is landed twice, whenever this is
    stopped or called again. A collector may be at work meanwhile.
    """
    from meterhouse.catalog import catalog
    from meterhouse.collection.dead_letter_retry import retry as try_again
    from meterhouse.configuration import open_checked
    from meterhouse.conversion.step import convert
    from meterhouse.errors import Conflict

    selection = _selection(ids, queue, reason, start, end, all_of_them)
    site = open_checked()
    with output.progress("retrying dead letters") as tell:
        retried = try_again(site, selection, progress=tell)
    done = {**asdict(retried), "reasons": dict(retried.reasons.most_common(REASONS_SHOWN))}
    try:
        converted, catalogued = convert(site, wait_seconds=WAIT_SECONDS), catalog(site)
        done["samples"], done["events"] = converted.samples, converted.events
        done["conversion_errors"], done["unsigned_samples"] = converted.errors, converted.unsigned
        done["late_points"] = catalogued.late
    except Conflict as error:  # which does the same for what was landed here
        output.note(f"meterhouse: {error}")
    output.figures("retried", done, as_json)


@dead_letters.command()
@_chosen
@click.option("--dry-run", is_flag=True, help="Only say how many there are, of how many bytes, from when to when.")
@as_json
def purge(
    ids: tuple[int, ...],
    queue: str | None,
    reason: str | None,
    start: datetime | None,
    end: datetime | None,
    all_of_them: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Delete dead letters for good."""
    from meterhouse.dead_letters import purge as delete
    from meterhouse.site import Site

    selection = _selection(ids, queue, reason, start, end, all_of_them)
    found = asdict(delete(Site.open(), selection, dry_run=dry_run))
    output.figures("would purge" if dry_run else "purged", {**found, "dry_run": dry_run}, as_json)


COMMANDS: list[click.Command] = [dead_letters]
