"""Commands of resources: list, show."""

from collections.abc import Sequence

import click

from meterhouse.cli.groups import ListsByDefault
from meterhouse.cli.options import limit, prints, query
from meterhouse.cli.output import Printer
from meterhouse.filters import RESOURCES, Condition
from meterhouse.scopes import EVERYTHING

_COLUMNS = ("source", "resource_id", "project_id", "user_id", "first_sample_at", "last_sample_at", "metadata")


@click.group(cls=ListsByDefault)
def resources() -> None:
    """Resources, as their newest samples describe them; without a command, list them."""


@resources.command("list")
@query(RESOURCES)
@limit
@prints(*_COLUMNS, shown=("resource_id", "last_sample_at", "project_id", "user_id", "source", "first_sample_at"))
def list_resources(query: Sequence[Condition], limit: int, printer: Printer) -> None:
    """List resources, those with the newest samples first.

    A table leaves out the metadata: use --json, or choose the column. `-q meter eq cpu` finds the resources that have
    the meter, `-q meter ne cpu` those that do not.
    """
    from meterhouse.queries.resources import resource_list
    from meterhouse.site import Site

    printer.rows(resource_list(Site.open(), EVERYTHING, limit, query))


@resources.command()
@click.argument("resource_id", metavar="ID")
@click.option("--source", help="Its source, if several have a resource of this ID; default that of the newest sample.")
@click.option("--history", is_flag=True, help="Show also what it was by time: project, user and metadata.")
@prints(*_COLUMNS, "meters", "history")
def show(resource_id: str, source: str | None, history: bool, printer: Printer) -> None:
    """Show the resource ID: its project, user, times and metadata, and its meters with their first and last points.

    With --history, also what it was by time. A span is from `valid_from` to before `valid_to`.
    """
    from meterhouse.queries.resources import history_of, resource
    from meterhouse.site import Site

    site = Site.open()
    found = resource(site, EVERYTHING, resource_id, source)
    if history or "history" in printer.chosen:
        found["history"] = history_of(site, EVERYTHING, resource_id, found["source"])
    printer.figures(resource_id, found)
