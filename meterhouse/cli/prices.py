"""Commands of prices: list, check, import."""

from pathlib import Path

import click

from meterhouse.cli.groups import ListsByDefault
from meterhouse.cli.options import prints
from meterhouse.cli.output import Printer, line, note
from meterhouse.untrusted import printable


def _columns(ctx: click.Context, param: click.Parameter, given: tuple[str, ...]) -> dict[str, str]:
    from meterhouse.definitions.prices import TEXTS

    made = {}
    for each in given:
        name, _, column = each.partition("=")
        if not name or (column not in TEXTS and not column.removeprefix("metadata.")):
            raise click.BadParameter(f"'{each}' is not FIELD=COLUMN, such as flavor_id=metadata.flavor_id")
        if column not in TEXTS and not column.startswith("metadata."):
            raise click.BadParameter(f"'{column}' is not metadata.KEY, nor one of {', '.join(TEXTS)}")
        made[name] = column
    return made


@click.group(cls=ListsByDefault)
def prices() -> None:
    """Prices, by which bills are made; without a command, list them."""


@prices.command("list")
@prints("name", "service", "for", "costs", "unit", "from", "to", "description", "line")
def list_prices(printer: Printer) -> None:
    """List the prices of the site: what each is for, what it costs and when it is valid."""
    from meterhouse.billing.counting import unit_of
    from meterhouse.definitions.prices import load
    from meterhouse.settings import settings

    loaded = load(settings().config_dir)
    rows = [
        {
            "name": each.name,
            "service": each.service,
            "for": each.is_for,
            "costs": each.costs,
            "unit": f"{loaded.currency}/{unit_of(each)}",
            "from": each.start,
            "to": each.end,
            "description": each.description,
            "line": each.line,
        }
        for each in loaded.prices
    ]
    printer.rows(rows)
    for error in loaded.faults:
        note(printable(f"left out: {error}"))


@prices.command()
@click.argument("files", nargs=-1, type=click.Path(path_type=Path))
def check(files: tuple[Path, ...]) -> None:
    """Check files of prices (FILES; default: the site's own, or the shipped one, which has none).

    Prints each price, discount, minimum and tax that cannot work, with its file and line. The exit status is 1 if there
    is one. Names times at which a price is not valid, between two at which it is.
    """
    from meterhouse.billing.counting import unconvertible
    from meterhouse.definitions import units
    from meterhouse.definitions.prices import gaps, load, read
    from meterhouse.settings import settings

    folder = settings().config_dir
    parts = [read(path) for path in files] or [load(folder)]
    table = units.load(folder)
    faults = [str(error) for part in parts for error in part.faults]
    faults += [
        f"{part.path}:{price.line}: {what}. Write a unit that {table.path} has, or leave unit out"
        for part in parts
        for price in part.prices
        if (what := unconvertible(price, table)) is not None
    ]
    for fault in faults:
        line(printable(fault))
    for part in parts:
        for gap in gaps(part.prices):
            note(printable(f"{part.path}: {gap}"))
    rules = sum(len(part.discounts) + len(part.minimums) + len(part.taxes) for part in parts)
    note(f"{sum(len(part.prices) for part in parts)} prices, {rules} rules, {len(faults)} faults")
    if faults:
        raise SystemExit(1)


@prices.command("import")
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--currency", required=True, help="The currency of CloudKitty's costs, such as EUR.")
@click.option("--time-zone", default="UTC", show_default=True, help="The time zone in which months are billed.")
@click.option(
    "--period",
    type=click.IntRange(1, 86_400),
    default=3600,
    show_default=True,
    help="CloudKitty's collect period in seconds.",
)
@click.option(
    "--column",
    "columns",
    metavar="FIELD=COLUMN",
    multiple=True,
    callback=_columns,
    help="What a field is here: a column such as flavor, or metadata.KEY. Repeatable.",
)
def import_hashmap(
    files: tuple[Path, ...], currency: str, time_zone: str, period: int, columns: dict[str, str]
) -> None:
    """Print the prices that CloudKitty's hashmap rules in FILES made, as prices.yaml.

    FILES are JSON or YAML: what its API returns below /v1/rating/module_config/hashmap/, and its metrics.yml. Names
    each rule that no price can be, on standard error.
    """
    import tempfile

    import yaml

    from meterhouse.definitions.hashmap import imported
    from meterhouse.definitions.prices import read

    found = imported(list(files), period, columns)
    content = {"currency": currency, "time_zone": time_zone, "prices": found.entries}
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=100)
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder) / "imported"
        written.write_text(text, encoding="utf-8")
        faults = read(written).faults
    line(text.rstrip())
    for remark in found.remarks:
        note(printable(remark))
    for error in faults:
        note(printable(f"cannot work: {error.what}. {error.hint}"))
    note(f"{len(found.entries)} prices, {len(found.remarks)} remarks, {len(faults)} faults")
