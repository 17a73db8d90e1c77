"""Commands of erasures: user, list, show, again."""

import getpass
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from meterhouse.cli.groups import ListsByDefault
from meterhouse.cli.options import Checked, prints
from meterhouse.cli.output import Printer, note
from meterhouse.cli.progress import progress

if TYPE_CHECKING:
    from meterhouse.erasure.erase import Found
    from meterhouse.erasure.recorded import Erasure

SHOWN_FIELDS = 20
"""How many values of fields that describe the user a preview shows."""

_COLUMNS = (
    *("id", "state", "pseudonym", "reason", "author", "recorded_at", "ended_at", "rows"),
    *("digest", "salt", "shape"),
)
_DONE = ("id", "pseudonym", "rows", "deleted_files", "left", "found", "dry_run")


@click.group("erase", cls=ListsByDefault)
def erase() -> None:
    """Erase the personal data of a user; without a command, list who was erased.

    A pseudonym comes in place of the user's id in every table, file and message. Points, volumes and projects stay, so
    all sums and bills do.
    """


def _to_erase(text: str) -> str:
    from meterhouse.erasure.recorded import checked

    return checked(text)


def _text(text: str) -> str:
    from meterhouse.errors import UsageError

    if not text.strip():
        raise UsageError("it is empty")
    return text


@erase.command()
@click.argument("user_id", metavar="USER_ID", type=Checked("id", _to_erase, ()))
@click.option("--reason", required=True, type=Checked("reason", _text, ()), help="Why.")
@click.option("--author", type=Checked("author", _text, ()), help="Who; default your login name.")
@click.option(
    "--also",
    multiple=True,
    metavar="TEXT",
    type=Checked("text", _to_erase, ()),
    help="A further text to erase wherever it is: a name, an e-mail address. Repeatable.",
)
@click.option("--dry-run", is_flag=True, help="Only count what would change, and show what describes the user.")
@click.option("--yes", is_flag=True, help="Do not ask. Needed where there is no terminal.")
@prints(*_DONE)
def user(
    user_id: str,
    reason: str,
    author: str | None,
    also: tuple[str, ...],
    dry_run: bool,
    yes: bool,
    printer: Printer,
) -> None:
    """Erase the user USER_ID: this cannot be undone.

    Steps that compute wait until it ends; messages are landed all the same, without the user. If it is killed, the same
    command continues. What comes later of the user gets the same pseudonym.
    """
    from meterhouse.erasure.erase import erase as erase_user
    from meterhouse.erasure.erase import preview
    from meterhouse.erasure.recorded import proposed
    from meterhouse.site import Site

    if not (dry_run or yes or sys.stdin.isatty()):
        raise click.UsageError("there is no terminal to ask on: give --yes, or --dry-run first")
    site = Site.open()
    one = proposed(site, user_id, reason=reason, author=author or _login_name())
    if dry_run or not yes:
        with progress("searching files") as bar:
            found = preview(site, one, user_id, also, progress=bar)
        if dry_run:
            _print(printer, "would erase", found, dry_run=True)
            return
        total = sum(found.rows.values())
        click.confirm(f"erase the user in {total:,} rows, for ever?", abort=True, err=True)
    with progress("erasing, by file") as bar:
        found = erase_user(site, one, user_id, also, progress=bar)
    _print(printer, "erased", found, dry_run=False)


def _login_name() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        raise click.UsageError("you have no login name: give --author") from None


def _print(printer: Printer, what: str, found: "Found", *, dry_run: bool) -> None:
    fields = Counter[str]()
    for (key, value), count in found.described.items():
        fields[f"{key}: {value}"] += count
    row = {
        "id": found.erasure.erasure_id,
        "pseudonym": found.erasure.user.pseudonym if not dry_run or found.erasure.ended_at else None,
        "rows": dict(sorted(found.rows.items())),
        "deleted_files": found.deleted_files,
        "left": found.left,
        # After the erasure, the terminal's log would be the one place that still has them.
        "found": dict(fields.most_common(SHOWN_FIELDS)) if dry_run else None,
        "dry_run": dry_run,
    }
    printer.figures(what, row)
    for each in found.left:
        note(each)


@erase.command("list")
@prints(*_COLUMNS, shown=("id", "state", "pseudonym", "rows", "recorded_at", "ended_at", "author", "reason"))
def list_erasures(printer: Printer) -> None:
    """List all erasures, the oldest first. With --json, this is the list that `erase again` takes after a restore."""
    from meterhouse.erasure.recorded import recorded
    from meterhouse.site import Site

    printer.rows([{**_row(one), "rows": sum(one.rows.values())} for one in recorded(Site.open())])


@erase.command()
@click.argument("erasure_id", metavar="ID", type=int)
@prints(*_COLUMNS)
def show(erasure_id: int, printer: Printer) -> None:
    """Show the erasure ID: who, when, why, and how many rows of which table."""
    from meterhouse.erasure.recorded import find
    from meterhouse.site import Site

    printer.figures(f"erasure {erasure_id}", _row(find(Site.open(), erasure_id)))


def _row(one: "Erasure") -> dict[str, Any]:
    row = {**vars(one), **vars(one.user), "id": one.erasure_id, "rows": dict(one.rows)}
    return {name: row.get(name) for name in _COLUMNS} | {"state": "unfinished" if one.ended_at is None else "done"}


@erase.command()
@click.option(
    "--list",
    "listed",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Erasures that the warehouse may not know: what `erase list --json` has printed.",
)
@prints("id", "pseudonym", "rows", "deleted_files")
def again(listed: Path | None, printer: Printer) -> None:
    """Erase again those of whom something is there, as after a restore from a backup.

    They are found by the hashes of their ids. The names and e-mail addresses that you gave with --also are not known
    any more: where fields of messages do not name them, give them to `erase user` again.
    """
    from meterhouse.erasure.again import again as erase_again
    from meterhouse.erasure.again import read
    from meterhouse.site import Site

    known = read(listed) if listed is not None else ()
    with progress("erasing again, by file") as bar:
        found = erase_again(Site.open(), known, progress=bar)
    printer.rows(
        [
            {
                "id": each.erasure.erasure_id,
                "pseudonym": each.erasure.user.pseudonym,
                "rows": sum(each.rows.values()),
                "deleted_files": each.deleted_files,
            }
            for each in found
        ]
    )
    for each in found:
        for left in each.left:
            note(left)
