"""Commands of derived meters: list, check, import."""

from pathlib import Path

import click

from meterhouse.cli.groups import ListsByDefault
from meterhouse.cli.options import prints
from meterhouse.cli.output import Printer, line, note
from meterhouse.untrusted import printable


@click.group(cls=ListsByDefault)
def derived() -> None:
    """Meters that are computed from others; without a command, list them."""


@derived.command("list")
@prints("name", "kind", "type", "unit", "made_of", "description", "line")
def list_derived(printer: Printer) -> None:
    """List the derived meters of the site, and what each is made of."""
    from meterhouse.definitions.derived_meters import load
    from meterhouse.settings import settings

    loaded = load(settings().config_dir)
    rows = [
        {
            "name": each.name,
            "kind": each.kind,
            "type": each.type,
            "unit": each.unit,
            "made_of": each.made_of(),
            "description": each.description,
            "line": each.line,
        }
        for each in loaded.definitions
    ]
    printer.rows(rows)
    for error in loaded.faults:
        note(printable(f"left out: {error}"))


@derived.command()
@click.argument("files", nargs=-1, type=click.Path(path_type=Path))
def check(files: tuple[Path, ...]) -> None:
    """Check files of derived meters (FILES; default: the site's own, or the shipped one).

    Prints each definition that cannot work, with its file and line. The exit status is 1 if there is one.
    """
    from meterhouse.definitions.derived_meters import load, read
    from meterhouse.settings import settings

    parts = [read(path) for path in files] or [load(settings().config_dir)]
    faults = [error for part in parts for error in part.faults]
    for error in faults:
        line(printable(str(error)))
    note(f"{sum(len(part.definitions) for part in parts)} derived meters, {len(faults)} faults")
    if faults:
        raise SystemExit(1)


@derived.command("import")
@click.argument("pipelines", metavar="PIPELINE...", nargs=-1, required=True, type=click.Path(path_type=Path))
def import_pipelines(pipelines: tuple[Path, ...]) -> None:
    """Print the derived meters that the transformers of Ceilometer's PIPELINE files made, as derived_meters.yaml.

    Names each transformer that has no equal, with its file and line, on standard error.
    """
    import tempfile

    import yaml

    from meterhouse.definitions.derived_meters import read
    from meterhouse.definitions.transformers import imported

    found = imported(list(pipelines))
    text = yaml.safe_dump({"derived_meters": found.entries}, sort_keys=False, allow_unicode=True, width=100)
    with tempfile.TemporaryDirectory() as folder:
        written = Path(folder) / "imported"
        written.write_text(text, encoding="utf-8")
        faults = read(written).faults
    line(text.rstrip())
    for remark in found.remarks:
        note(printable(remark))
    for error in faults:
        note(printable(f"cannot work: {error.what}. {error.hint}"))
    note(f"{len(found.entries)} derived meters, {len(found.remarks)} remarks, {len(faults)} faults")
