"""Commands of the past of alarms: explain, replay."""

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from meterhouse.cli.options import prints, span
from meterhouse.cli.output import Printer, note
from meterhouse.cli.progress import progress

if TYPE_CHECKING:
    from meterhouse.alarms.replay.run import Replayed


@click.command()
@click.argument("alarm", metavar="NAME|FILE")
@span(to_alone=False)
@click.option("--against", type=click.Path(dir_okay=False, path_type=Path), help="Compare with this file.")
@click.option("--every", type=click.IntRange(1, 86_400), default=60, show_default=True, help="Seconds between cycles.")
@click.option("--fast", is_flag=True, help="Answer from roll-ups: near, not exact.")
@click.option("--hindsight", is_flag=True, help="Count points that came later, too, such as loaded ones.")
@click.option("--plot", type=click.Path(dir_okay=False, path_type=Path), help="Write a picture to this file: SVG.")
@prints("alarm", "from", "to", "state", "seconds", "values", "reason", "against")
def replay(
    alarm: str,
    start: datetime | None,
    end: datetime | None,
    against: Path | None,
    every: int,
    fast: bool,
    hindsight: bool,
    plot: Path | None,
    printer: Printer,
) -> None:
    """Show when an alarm would have rung, for how long and on what values.

    NAME is an alarm of this site, by name or id. FILE is a YAML file with alarms, in the form of alarms.yaml or with
    one alarm alone. It runs over the raw points as they were known at each cycle, and decides as the live evaluation
    did. Points that were loaded long after their time were not known then: --hindsight counts them.
    With --against, FILE has another version of the alarm, and the spans in which the two differ are printed.
    """
    from meterhouse.alarms.replay import asked, comparing, drawn, run
    from meterhouse.alarms.replay import fast as from_rollups
    from meterhouse.site import Site

    if start is None or end is None:
        raise click.UsageError("name a --from")
    if fast and hindsight:
        raise click.UsageError("--fast counts all points anyway: leave --hindsight out")
    if plot is not None and plot.suffix.lower() != ".svg":
        raise click.UsageError(f"{plot.name} is not an SVG file: let its name end with .svg")
    if plot is not None and not plot.resolve().parent.is_dir():
        raise click.UsageError(f"{plot} cannot be written: there is no folder {plot.parent}")
    site = Site.open()
    ids, given = asked.of_file(site, Path(alarm)) if _is_file(alarm) else _one(*asked.of_site(site, alarm))
    moments = run.cycles(start, end, every)
    play = from_rollups.replay if fast else run.hindsight if hindsight else run.replay
    with progress("replaying alarms"):
        found = play(site, {key: asked.enabled(each) for key, each in given.items()}, moments, every)
        shown = [found[key] for key in ids]
        if against is not None:
            if len(shown) > 1:
                raise click.UsageError(f"{alarm} has {len(shown)} alarms: --against compares one")
            key, others = asked.one_of_file(site, against, shown[0].alarm.name)
            other = play(site, {each: asked.enabled(one) for each, one in others.items()}, moments, every)[key]
            shown.append(other)
    if fast:
        note("from roll-ups: near the live evaluation, not equal to it")
    if not hindsight and not any(value is not None for each in shown for value in each.recent):
        note("no point was known at these times; --hindsight counts those that came later")
    if plot is not None:
        plot.write_text(drawn.svg(shown))
    for each in shown:
        _summary(each)
    if against is not None:
        printer.rows([_difference(shown[0].alarm.name, each) for each in comparing.differences(*shown)])
    else:
        printer.rows([row for each in shown for row in _rows(each)])


def _one(key: str, given: Any) -> tuple[list[str], Any]:
    return [key], given


def _is_file(text: str) -> bool:
    return text.endswith((".yaml", ".yml", ".json")) or "/" in text


def _summary(of: "Replayed") -> None:
    rang = sum(change.state == "alarm" for change in of.changes)
    note(
        f"{of.alarm.name}: rings {rang} time{'s' * (rang != 1)}, {of.seconds('alarm'):,.0f} s in alarm, "
        f"{of.seconds('ok'):,.0f} s ok, {of.seconds('insufficient data'):,.0f} s insufficient data; "
        f"{of.notifications} notifications"
    )


def _rows(of: "Replayed") -> list[dict[str, Any]]:
    return [
        {
            "alarm": of.alarm.name,
            "from": start,
            "to": end,
            "state": state,
            "seconds": (end - start).total_seconds(),
            "values": list(change.values) if change else [],
            "reason": change.reason if change else "Not evaluated yet",
        }
        for start, end, state, change in of.spans()
    ]


def _difference(name: str, each: Any) -> dict[str, Any]:
    seconds = (each.end - each.start).total_seconds()
    return {
        "alarm": name,
        "from": each.start,
        "to": each.end,
        "state": each.one,
        "against": each.other,
        "seconds": seconds,
    }


@click.command()
@click.argument("event_id")
@prints(
    *("alarm_id", "name", "timestamp", "state", "reason", "windows", "samples", "event", "alarms"),
    shown=("name", "timestamp", "state", "reason", "windows", "samples", "event", "alarms"),
)
def explain(event_id: str, printer: Printer) -> None:
    """Explain the transition EVENT_ID of an alarm, down to the messages.

    It prints the values that decided, the samples that they were made of, the quality rules that excluded some, and the
    ids of the notifications that the samples came from. `meterhouse alarms history NAME` lists the ids of transitions.
    """
    from dataclasses import asdict

    from meterhouse.alarms.explaining import explain as find
    from meterhouse.alarms.keeping.callers import OPERATOR
    from meterhouse.site import Site

    with progress("looking for the messages"):
        found = asdict(find(Site.open(), event_id, OPERATOR))
    del found["event_id"]
    printer.figures(event_id, {name: value for name, value in found.items() if value or name in ("state", "reason")})
