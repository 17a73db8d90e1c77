"""Commands about the site itself: demo, doctor, settings, migrate."""

import click

from meterhouse.cli.options import prints
from meterhouse.cli.output import Printer, note
from meterhouse.cli.progress import progress


@click.command()
@click.option("--exit", "exit_after", is_flag=True, help="Stop after the tour. The exit status is 0 if all was right.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=3000,
    show_default=True,
    help="The port of the user interface; 0: any free port.",
)
@click.option("--seed", type=int, default=7, show_default=True, help="Seed of the simulated cloud.")
def demo(exit_after: bool, port: int, seed: int) -> None:
    """Run the whole pipeline on a simulated cloud, under Dagster, in its own home folder."""
    from meterhouse.shipped import code_location

    code_location()
    from meterhouse.demo.tour import tour

    raise SystemExit(tour(exit_after=exit_after, port=port, seed=seed))


@click.command()
@click.option(
    "--mend",
    "mends",
    is_flag=True,
    help="Recompute what a power cut, a restore or a fault of the disk damaged. May run while the site is in use.",
)
@prints("part", "state", "finding", prose=("finding",))
def doctor(printer: Printer, mends: bool) -> None:
    """Check every configured part, and report what to fix. The exit status is 1 if a part has failed."""
    with progress("fixing" if mends else "checking"):
        if mends:
            from meterhouse.mending.mend import mend
            from meterhouse.site import Site

            found = mend(Site.open())
        else:
            from meterhouse.doctor import examine

            found = examine()
    printer.rows(found)
    if any(row["state"] == "failed" for row in found):
        raise SystemExit(1)


@click.command("settings")
@prints("setting", "value", "meaning", whole=("setting",), prose=("value", "meaning"))
def show_settings(printer: Printer) -> None:
    """List all settings with their values and meanings."""
    from meterhouse.settings import SECRETS, declarations, settings, variable, without_password

    values = settings()
    found = []
    for name, declared in declarations().items():
        value = getattr(values, name)
        shown = "***" if name in SECRETS and value else without_password(name, _text(value))
        found.append({"setting": variable(name), "value": shown, "meaning": declared.description})
    printer.rows(found)


def _text(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value)


@click.command()
def migrate() -> None:
    """Upgrade the warehouse's schema to this version's."""
    from meterhouse.settings import settings
    from meterhouse.stores.warehouse import HEAD_REVISION, Warehouse

    warehouse = Warehouse(settings().warehouse, settings().lease_seconds)
    before = warehouse.revision()
    warehouse.migrate()
    note(f"the schema is at revision {HEAD_REVISION} (was {before or 'empty'})")
