"""Commands of names: list, show, sync."""

from datetime import datetime

import click

from meterhouse.cli.groups import ListsByDefault
from meterhouse.cli.options import TIMES, Instant, prints
from meterhouse.cli.output import Printer, note
from meterhouse.cli.progress import progress

_KINDS = ("project", "user", "domain", "flavor", "image", "volume_type")
_COLUMNS = ("kind", "id", "name", "domain", "witness", "valid_from", "valid_to")


@click.group(cls=ListsByDefault)
def names() -> None:
    """What projects, users and flavors are called, and were called; without a command, list them."""


@names.command("list")
@click.option("--kind", type=click.Choice(_KINDS), help="Only these.")
@click.option("--at", "moment", type=Instant(), help=f"The names of a time, not of now: {TIMES}.")
@prints(*_COLUMNS, shown=("kind", "id", "name", "domain", "witness"), whole=("id",))
def list_names(kind: str | None, moment: datetime | None, printer: Printer) -> None:
    """List the names of now, or of a time. Of several witnesses the file rules, then Keystone, then messages."""
    from meterhouse.site import Site
    from meterhouse.usage.names import listed

    printer.rows([_row(each) for each in listed(Site.open(), kind, moment)])


@names.command()
@click.argument("name", metavar="ID_OR_NAME")
@prints(*_COLUMNS, shown=("kind", "id", "valid_from", "valid_to", "name", "domain", "witness"), whole=("id",))
def show(name: str, printer: Printer) -> None:
    """Show the names that ID_OR_NAME had by time: of an id, or of all ids that have had a name."""
    from meterhouse.site import Site
    from meterhouse.usage.names import history_of

    printer.rows([_row(each) for each in history_of(Site.open(), name)])


@names.command()
@prints("file", "messages", "keystone", "changed", "faults", "seconds")
def sync(printer: Printer) -> None:
    """Read the names of names.csv, of new messages, and of Keystone if METERHOUSE_KEYSTONE_URL is set.

    The exit status is 1 if Keystone does not answer, or something could not be read. All other names are stored.
    """
    from meterhouse.site import Site
    from meterhouse.usage.names_sync import sync as sync_names

    with progress("reading names"):
        done = sync_names(Site.open(), wait_seconds=10.0)
    printer.figures("names", vars(done))
    for fault in done.faults:
        note(fault)
    if done.faults:
        raise SystemExit(1)


def _row(each: dict[str, object]) -> dict[str, object]:
    row = {**each, "domain": each["domain_name"]}
    return {name: row[name] for name in _COLUMNS}
