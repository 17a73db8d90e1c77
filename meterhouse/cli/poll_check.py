"""The command that checks polling.yaml and pollsters.d."""

from dataclasses import asdict
from pathlib import Path

import click

from meterhouse.cli.options import prints
from meterhouse.cli.output import Printer, line, note
from meterhouse.untrusted import printable


@click.command()
@click.argument("folder", required=False, type=click.Path(path_type=Path, exists=True, file_okay=False))
@prints("file", "line", "severity", "entry", "reason")
def check(folder: Path | None, printer: Printer) -> None:
    """Check what is to be polled (FOLDER: like METERHOUSE_CONFIG_DIR; default: the site's own).

    Prints every fault and warning of polling.yaml and of the pollsters of pollsters.d with its file, line and reason.
    An entry with a fault is left out; the others are polled. The exit status is 1 if there is a fault. It asks no
    service and opens no store. `meterhouse poll try` asks.
    """
    from meterhouse.polling.definitions import load
    from meterhouse.settings import settings

    given = settings()
    polling = load(folder or given.config_dir)
    if printer.format == "table" and not printer.chosen:
        for finding in polling.findings:
            line(printable(str(finding)))  # as compilers do, so that an editor finds the place
    else:
        printer.rows([asdict(finding) for finding in polling.findings])
    warnings = len(polling.findings) - len(polling.faults)
    scheduled = polling.schedules({name for each in polling.pollsters for name in each.namespaces})
    note(
        f"{len(polling.sources)} sources poll {len({each.pollster.name for each in scheduled})} "
        f"of {len(polling.pollsters)} pollsters: {len(polling.faults)} faults, {warnings} warnings"
    )
    if polling.faults:
        raise SystemExit(1)
