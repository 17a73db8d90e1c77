"""Commands of definitions: check, drift."""

from dataclasses import asdict
from pathlib import Path

import click

from meterhouse.cli.options import prints
from meterhouse.cli.output import Printer, line, note
from meterhouse.cli.progress import progress
from meterhouse.untrusted import printable


@click.group()
def definitions() -> None:
    """Meter and event definitions: whether they are valid, and whether they still find values."""


@definitions.command()
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@prints("file", "line", "severity", "definition", "reason")
def check(paths: tuple[Path, ...], printer: Printer) -> None:
    """Check definition files (PATHS: files, or folders like METERHOUSE_CONFIG_DIR; default: the site's own).

    Prints every fault and warning with its file, line and reason. The exit status is 1 if there is a fault. Use it to
    check a change before you merge it: it needs no site and opens no store.
    """
    from meterhouse.definitions.checking import Checked, check_folder
    from meterhouse.definitions.checking import check as check_files
    from meterhouse.settings import settings

    given = settings()
    names = given.icehouse_names
    with progress("checking definitions"):
        if not paths:
            parts = [check_folder(given.config_dir, icehouse_names=names, icehouse_meters=given.icehouse_meters)]
        else:
            parts = [check_files([path for path in paths if not path.is_dir()], icehouse_names=names)]
            parts += [check_folder(path, icehouse_names=names, shipped=False) for path in paths if path.is_dir()]
    checked = Checked.together(parts)
    if printer.format == "table" and not printer.chosen:
        for finding in checked.findings:
            line(printable(str(finding)))  # as compilers do, so that an editor finds the place
    else:
        printer.rows([asdict(finding) for finding in checked.findings])
    warnings = len(checked.findings) - checked.faults
    note(
        f"{checked.files} files with {checked.meters} meters and {checked.events} event definitions: "
        f"{checked.faults} faults, {warnings} warnings"
    )
    if checked.faults:
        raise SystemExit(1)


@definitions.command()
@click.option("--forget", is_flag=True, help="Start counting again: values found so far are no longer expected.")
@click.option("--event-type", help="Only this event type.")
@prints("event_type", "reader", "path", "found", "of", "missed", "last_found_at")
def drift(forget: bool, event_type: str | None, printer: Printer) -> None:
    """List paths that found values in notifications of a type before, and no longer do."""
    from meterhouse.conversion.drift import drifted
    from meterhouse.conversion.drift import forget as start_again
    from meterhouse.site import Site

    site = Site.open()
    if forget:
        note(f"forgot {start_again(site, event_type)} paths")
        return
    printer.rows([asdict(each) for each in drifted(site) if event_type in (None, each.event_type)])
