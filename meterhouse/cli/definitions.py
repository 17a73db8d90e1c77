"""Commands of definitions: check, drift."""

from dataclasses import asdict
from pathlib import Path

import click

from meterhouse.cli import output
from meterhouse.cli.options import as_json


@click.group()
def definitions() -> None:
    """Meter and event definitions: whether they can work, and whether they still find what they look for."""


@definitions.command()
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@as_json
def check(paths: tuple[Path, ...], as_json: bool) -> None:
    """Check definition files (PATHS: files, or folders as METERHOUSE_CONFIG_DIR; default: the site's own).

    Every fault and every doubt with file, line and reason; exit status 1 if there is a fault. Made for the check before
    a change is merged: it needs no site and touches no store.
    """
    from meterhouse.definitions.checking import Checked, check_folder
    from meterhouse.definitions.checking import check as check_files
    from meterhouse.settings import settings

    given = settings()
    names = given.icehouse_names
    if not paths:
        parts = [check_folder(given.config_dir, icehouse_names=names, icehouse_meters=given.icehouse_meters)]
    else:
        parts = [check_files([path for path in paths if not path.is_dir()], icehouse_names=names)]
        parts += [check_folder(path, icehouse_names=names, shipped=False) for path in paths if path.is_dir()]
    checked = Checked.together(parts)
    for finding in checked.findings:
        output.line(output.dumps(asdict(finding)) if as_json else str(finding))
    doubts = len(checked.findings) - checked.faults
    output.note(
        f"{checked.files} files with {checked.meters} meters and {checked.events} event definitions: "
        f"{checked.faults} faults, {doubts} warnings"
    )
    if checked.faults:
        raise SystemExit(1)


@definitions.command()
@click.option("--forget", is_flag=True, help="Begin to count anew: what was found is no longer expected.")
@click.option("--event-type", help="Only this event type.")
@as_json
def drift(forget: bool, event_type: str | None, as_json: bool) -> None:
    """Paths that used to find something in notifications of a type, and no longer do."""
    from meterhouse.conversion.drift import drifted
    from meterhouse.conversion.drift import forget as begin_anew
    from meterhouse.site import Site

    site = Site.open()
    if forget:
        output.note(f"forgot {begin_anew(site, event_type)} paths")
        return
    found = [asdict(each) for each in drifted(site) if event_type in (None, each.event_type)]
    output.rows(found, as_json)


COMMANDS: list[click.Command] = [definitions]
