"""The command that polls once and stores nothing."""

import click

from meterhouse.cli.options import limit, prints
from meterhouse.cli.output import Printer, note
from meterhouse.untrusted import printable

_COLUMNS = (
    *("counter_name", "counter_type", "counter_unit", "counter_volume", "resource_id", "project_id", "user_id"),
    *("timestamp", "source", "resource_metadata"),
)


@click.command("try")
@click.argument("pollster")
@click.option("--source", help="Poll what this source of polling.yaml has; default the first that has the pollster.")
@click.option("--resource", "resources", multiple=True, help="Poll this URL instead. Give it again for more.")
@limit
@prints(
    *_COLUMNS,
    shown=(*_COLUMNS[:1], "resource_id", "counter_volume", "counter_unit", "project_id", "resource_metadata"),
)
def try_pollster(pollster: str, source: str | None, resources: tuple[str, ...], limit: int, printer: Printer) -> None:
    """Poll POLLSTER once and print the samples; nothing is stored.

    It asks the services as a member would, with the site's credentials. The exit status is 1 if something could not be
    polled.
    """
    import time

    from meterhouse.polling.asking import Asking
    from meterhouse.polling.definitions import load
    from meterhouse.polling.trying import chosen, tried
    from meterhouse.settings import settings

    given = settings()
    found, of = chosen(load(given.config_dir), pollster, source, resources)
    asking = Asking(given)
    began = time.monotonic()
    try:
        what = tried(asking, found, of)
    finally:
        asking.close()
    seconds = time.monotonic() - began
    printer.rows(what.samples[:limit])
    for text in what.warnings:
        note(f"warning: {text}")
    for text in what.errors:
        note(f"not polled: {text}")
    more = f", {len(what.samples) - limit:,} of them not shown" if len(what.samples) > limit else ""
    tasks = f" in {what.tasks} tasks" if what.tasks > 1 else ""
    note(
        f"{len(what.samples):,} samples of {what.resources:,} resources{tasks}, {seconds:.2f} s{more}; "
        f"pollster {printable(found.where)}, source {of.name}"
    )
    if what.errors:
        raise SystemExit(1)
