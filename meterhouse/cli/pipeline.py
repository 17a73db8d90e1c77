"""Commands of the pipeline's steps: convert, collect, load, rollup, archive, backfill."""

import sys
from dataclasses import asdict
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from meterhouse import times
from meterhouse.cli import output
from meterhouse.cli.options import Day, as_json, span

if TYPE_CHECKING:
    from collections.abc import Iterator

    from meterhouse.definitions.loading import Definitions
    from meterhouse.site import Site


@click.command()
@click.argument("kind", type=click.Choice(["samples", "events"]))
@click.option(
    "--definitions",
    type=click.Path(exists=True, path_type=Path),
    help="A definition file, or a folder with meters.d/ and event_definitions.yaml; default: the site's own.",
)
@click.option(
    "--explain",
    metavar="MESSAGE_ID",
    help="Of this message only: which definition matched, which path found what, and what came of it.",
)
@as_json
def convert(kind: str, definitions: Path | None, explain: str | None, as_json: bool) -> None:
    """Convert notifications (JSON lines, enveloped or not) from standard input; touches no store.

    A dry run of definitions on a recorded stream: one JSON line a message, on standard output.
    """
    from meterhouse.conversion.convert import Converter
    from meterhouse.settings import settings

    loaded = _definitions(kind, definitions)
    for fault in loaded.faults:
        output.note(f"meterhouse: {fault}")
    converter = Converter.from_settings(settings(), loaded)
    if explain is not None:
        from meterhouse.conversion.explain import as_text, explain_event, explain_samples

        asked = next((each for _, each in _messages() if isinstance(each, dict) and _is(each, explain)), None)
        if asked is None:
            raise click.ClickException(f"no message on standard input has the message_id '{explain}'")
        found = (explain_samples if kind == "samples" else explain_event)(loaded, converter, asked)
        try:
            lines = [output.dumps(found)] if as_json else list(as_text(found))
        except RecursionError:
            raise click.ClickException(f"message '{explain}' is nested too deeply to be shown") from None
        for text in lines:
            output.line(text)
        return
    make = converter.samples_line if kind == "samples" else converter.event_line
    for number, message in _messages():
        failed: Exception | None = None
        line: dict[str, Any]
        if isinstance(message, dict):
            try:
                output.line(output.dumps(make(message)))
            except RecursionError as error:
                failed = error
        else:
            failed = message
        if failed is not None:
            reason = {"error": type(failed).__name__, "detail": f"line {number}: {failed}"}
            if kind == "samples":
                line = {"message_id": None, "event_type": None, "samples": [], "errors": [reason]}
            else:
                line = {"message_id": None, "event": None, "error": reason}
            output.line(output.dumps(line))


def _name_left_out(site: "Site") -> None:
    for fault in site.definitions.faults:
        output.note(f"meterhouse: {fault}")


def _definitions(kind: str, path: Path | None) -> "Definitions":
    from meterhouse.definitions.loading import load, load_files
    from meterhouse.settings import settings

    icehouse_names = settings().icehouse_names
    if path is None:
        given = settings()
        return load(given.config_dir, icehouse_names=icehouse_names, icehouse_meters=given.icehouse_meters)
    if path.is_dir():
        return load(path, icehouse_names=icehouse_names)
    meters, events = ([path], None) if kind == "samples" else ([], path)
    return load_files(meters, events, icehouse_names=icehouse_names)


def _messages() -> "Iterator[tuple[int, dict[str, Any] | Exception]]":
    """The messages of standard input with the numbers of their lines; for a line that is none, why not."""
    from meterhouse.conversion.bodies import read_body
    from meterhouse.stream.envelope import unwrap

    for number, line in enumerate(sys.stdin.buffer, 1):
        if line.strip():
            try:
                message = unwrap(line.rstrip(b"\r\n"))
                read = read_body(message.body)
                own = read.get("message_id")
                yield number, {**read, "message_id": own if isinstance(own, str) and own else message.message_id}
            except (ValueError, TypeError, ArithmeticError, RecursionError) as error:
                yield number, error


def _is(message: dict[str, Any], message_id: str) -> bool:
    return message.get("message_id") == message_id


@click.command()
@click.option("--follow", is_flag=True, help="Go on for ever.")
@click.option("--max-messages", type=click.IntRange(1), help="Stop after so many messages.")
@click.option("--max-seconds", type=click.FloatRange(0, min_open=True), help="Stop draining after so many seconds.")
@as_json
def collect(follow: bool, max_messages: int | None, max_seconds: float | None, as_json: bool) -> None:
    """Drain the stream into the lake, convert what is landed meanwhile, and follow it in the catalog."""
    from meterhouse.collection.collect import Limits
    from meterhouse.collection.intake import Intake, intake
    from meterhouse.configuration import open_checked

    site = open_checked()
    _name_left_out(site)

    def tell(done: Intake) -> None:
        collected, converted, catalogued = done.collected, done.followed.converted, done.followed.catalogued
        figures = {
            **{name: value for name, value in asdict(collected).items() if name != "newest"},
            "samples": converted.samples,
            "events": converted.events,
            "conversion_errors": converted.errors,
            "unsigned_samples": converted.unsigned,
            "late_points": catalogued.late,
        }
        output.figures("collected", figures, as_json)

    def tell_of_part(part: Intake) -> None:
        if follow and (part.collected.messages or part.followed.converted.notifications):
            tell(part)

    with output.progress("collecting") as progress, output.ended_by_signal() as stop:
        limits = Limits(messages=max_messages, seconds=max_seconds, follow=follow, stop=stop)
        done = intake(site, limits, progress=progress, report=tell_of_part)
    if not follow:
        tell(done)


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@as_json
def load(files: tuple[Path, ...], as_json: bool) -> None:
    """Load FILES of notifications (JSON lines) or samples (CSV, JSON lines; also .gz) into the lake, as if collected.

    CSV columns: timestamp,meter,resource_id,volume[,type,unit,project_id,user_id]; `metric` and `value` are taken for
    meter and volume; meter and resource_id default to the file's name.
    """
    from meterhouse.catalog import catalog
    from meterhouse.collection.load import load as load_files
    from meterhouse.configuration import open_checked
    from meterhouse.conversion.step import convert as make

    site = open_checked()
    _name_left_out(site)
    try:
        with output.progress("loading files") as tell:
            loaded = load_files(site, list(files), progress=tell)
    finally:  # what was loaded before a file that cannot be, is of use all the same
        converted = make(site)
        catalogued = catalog(site)
    done = {
        "files": loaded.files,
        "messages": loaded.collected.messages,
        "landed": loaded.collected.landed,
        "redelivered": loaded.collected.redelivered,
        "dead_letters": loaded.collected.dead_letters,
        "dead_letters_known_already": loaded.collected.dead_letters_known,
        "samples": loaded.samples + converted.samples,
        "samples_known_already": loaded.known,
        "events": converted.events,
        "conversion_errors": converted.errors,
        "unsigned_samples": converted.unsigned,
        "late_points": catalogued.late,
    }
    output.figures("loaded", done, as_json)


@click.command()
@as_json
def rollup(as_json: bool) -> None:
    """Judge the quality of dirty event hours and roll up their good points."""
    from meterhouse.catalog import catalog
    from meterhouse.configuration import open_checked
    from meterhouse.rollups.step import roll_up
    from meterhouse.sample_quality.step import judge_hours

    site = open_checked()
    catalog(site)
    with output.progress("judging hours") as tell:
        judged = judge_hours(site, progress=tell)
    with output.progress("rolling up hours") as tell:
        rolled = roll_up(site, progress=tell)
    done = {
        "hours": len(rolled.hours),
        "points_judged": judged.points,
        "excluded": judged.excluded,
        "flagged": dict(judged.flagged),
        "rollups": rolled.rows,
        "seconds": round(judged.seconds + rolled.seconds, 3),
    }
    output.figures("rolled up", done, as_json)


@click.command()
@click.option("--day", type=Day(), help="The arrival day; default yesterday.")
@as_json
def archive(day: date | None, as_json: bool) -> None:
    """Seal an arrival day: one verified file a table and hour in place of many, listed in the manifest."""
    from meterhouse.archive.seal import archive as seal
    from meterhouse.archive.seal import manifest
    from meterhouse.configuration import open_checked

    site = open_checked()
    day = day or (times.now() - timedelta(days=1)).date()
    done = seal(site, day)
    output.note(
        f"sealed {len(done.sealed)} tables of {day}, unchanged {len(done.unchanged)}, "
        f"deleted {done.deleted_files} replaced files, {done.seconds:.1f} s"
    )
    columns = (
        "day",
        "table_name",
        "rows",
        "duplicates",
        "volume_sum",
        "files_before",
        "bytes_before",
        "bytes",
        "digest",
    )
    entries = manifest(site, day)
    output.rows([entry if as_json else {name: entry[name] for name in columns} for entry in entries], as_json)


@click.command()
@click.argument("asset")
@span
@click.option("--why", default="backfill by hand", show_default=True, help="The reason, kept with the hours.")
@as_json
def backfill(asset: str, start: datetime | None, end: datetime | None, why: str, as_json: bool) -> None:
    """Recompute ASSET over a span: sample_quality, rollups, archive or a report. Stopped, it goes on where it was."""
    from meterhouse.configuration import open_checked
    from meterhouse.recompute import backfill as recompute

    if start is None or end is None:
        raise click.UsageError("--from and --to are both needed")
    site = open_checked()
    with output.progress(f"backfilling {asset}") as tell:
        done = recompute(site, asset, start, end, why=why, progress=tell)
    output.figures("backfilled", done, as_json)


COMMANDS: list[click.Command] = [convert, collect, load, rollup, archive, backfill]
