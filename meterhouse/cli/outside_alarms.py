"""Commands of alarms that no file declares: create, set, delete, state, quota."""

import sys
from pathlib import Path
from typing import Any

import click

from meterhouse.cli.options import prints
from meterhouse.cli.output import Printer, note

_SHOWN = ("alarm_id", "name", "type", "state", "severity", "enabled", "project_id", "user_id", "definition")
_FILE = click.argument("file", type=click.Path(path_type=Path, allow_dash=True))


def _entry(file: Path) -> Any:
    """The definition in a file of YAML or JSON, or on standard input."""
    import tempfile

    from meterhouse import yaml_lines

    if str(file) != "-":
        return yaml_lines.read(file)
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as copy:
        copy.write(sys.stdin.read())
        copy.flush()
        return yaml_lines.read(Path(copy.name))


@click.command()
@_FILE
@click.option("--project", help="The project that owns the alarm. It then sees samples of this project only.")
@click.option("--user", help="The user that owns the alarm.")
@prints(*_SHOWN)
def create(file: Path, project: str | None, user: str | None, printer: Printer) -> None:
    """Create an alarm that no file declares.

    FILE has its definition as YAML or JSON, with the fields of an alarm in alarms.yaml; - is standard input. The alarm
    gets a random id. Its name need not be unique.
    """
    from meterhouse.alarms.keeping.callers import OPERATOR
    from meterhouse.alarms.keeping.managed import create as make
    from meterhouse.site import Site

    made = make(Site.open(), _entry(file), OPERATOR, project_id=project, user_id=user)
    printer.figures("created", {name: made[name] for name in _SHOWN})


@click.command("set")
@click.argument("alarm")
@_FILE
@prints(*_SHOWN)
def change(alarm: str, file: Path, printer: Printer) -> None:
    """Change the alarm ALARM, an id or a name.

    FILE has the fields to change as YAML or JSON, such as {enabled: false}; - is standard input. The other fields stay.
    An alarm that a file declares is changed in that file.
    """
    from meterhouse.alarms.keeping.callers import OPERATOR
    from meterhouse.alarms.keeping.managed import change as do
    from meterhouse.site import Site

    made = do(Site.open(), alarm, _entry(file), OPERATOR)
    printer.figures("changed", {name: made[name] for name in _SHOWN})


@click.command()
@click.argument("alarm")
@prints("alarm_id")
def delete(alarm: str, printer: Printer) -> None:
    """Delete the alarm ALARM, an id or a name. Its history stays."""
    from meterhouse.alarms.keeping.callers import OPERATOR
    from meterhouse.alarms.keeping.managed import remove
    from meterhouse.site import Site

    printer.figures("deleted", {"alarm_id": remove(Site.open(), alarm, OPERATOR)})


@click.command()
@click.argument("alarm")
@click.argument("new", required=False, metavar="[STATE]")
@prints("alarm_id", "name", "state", "state_timestamp", "state_reason")
def state(alarm: str, new: str | None, printer: Printer) -> None:
    """Show the state of the alarm ALARM, an id or a name; with STATE, set it.

    STATE is ok, alarm or "insufficient data". Nobody is notified, and the next evaluation may change the state.
    """
    from meterhouse.alarms.keeping.callers import OPERATOR
    from meterhouse.alarms.keeping.managed import set_state
    from meterhouse.alarms.keeping.states import alarm as show
    from meterhouse.site import Site

    found = show(Site.open(), alarm, OPERATOR) if new is None else set_state(Site.open(), alarm, new, OPERATOR)
    names = ("alarm_id", "name", "state", "state_timestamp", "state_reason")
    printer.figures(found["name"], {name: found[name] for name in names})


@click.command()
@click.argument("project")
@click.argument("maximum", type=int, required=False)
@click.option("--default", "default", is_flag=True, help="Go back to METERHOUSE_ALARM_PROJECT_QUOTA.")
@prints("project_id", "maximum", "used")
def quota(project: str, maximum: int | None, default: bool, printer: Printer) -> None:
    """Show how many alarms PROJECT may have and has; with MAXIMUM, set the maximum number (-1: any).

    Alarms that files declare do not count.
    """
    from dataclasses import asdict

    from meterhouse.alarms.keeping import quotas
    from meterhouse.alarms.keeping.callers import OPERATOR
    from meterhouse.site import Site

    if default and maximum is not None:
        raise click.UsageError("name a MAXIMUM or --default, not both")
    site = Site.open()
    if default:
        found = quotas.delete_quota(site, project, OPERATOR)
    elif maximum is not None:
        found = quotas.set_quota(site, project, maximum, OPERATOR)
    else:
        found = quotas.quota(site, project, OPERATOR)
    if found.maximum == quotas.NO_LIMIT:
        note("-1: any number of alarms")
    printer.figures(project, asdict(found))
