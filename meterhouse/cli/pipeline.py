"""Commands of the pipeline's steps: convert, collect, load, rollup, archive, backfill."""

import sys
from collections import Counter
from contextlib import ExitStack
from dataclasses import asdict
from datetime import date, datetime, timedelta
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from meterhouse import times
from meterhouse.cli.options import Day, Name, Seconds, as_json, config_dir, prints, span
from meterhouse.cli.output import Printer, dumps, line, note
from meterhouse.cli.progress import progress
from meterhouse.cli.signals import ended_by_signal
from meterhouse.queries import reports
from meterhouse.recompute import DEFINED, assets
from meterhouse.untrusted import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from meterhouse.definitions.loading import Definitions
    from meterhouse.progress import Progress
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
    help="Explain this message only: which definition matched, what each path found, and what the result is.",
)
@as_json
def convert(kind: str, definitions: Path | None, explain: str | None, as_json: bool) -> None:
    """Convert notifications (JSON lines, enveloped or not) from standard input. Opens no store.

    A dry run of definitions on a recorded stream. Prints one JSON line for each message.
    """
    from meterhouse.conversion.convert import Converter
    from meterhouse.settings import settings

    loaded = _definitions(kind, definitions)
    for fault in loaded.faults:
        note(f"meterhouse: {fault}")
    converter = Converter.from_settings(settings(), loaded)
    if explain is not None:
        from meterhouse.conversion.explain import as_text, explain_event, explain_samples

        asked = next((each for _, each in _messages() if isinstance(each, dict) and _is(each, explain)), None)
        if asked is None:
            raise click.ClickException(f"no message on standard input has the message_id '{explain}'")
        found = (explain_samples if kind == "samples" else explain_event)(loaded, converter, asked)
        try:
            lines = [dumps(found)] if as_json else list(map(printable, as_text(found)))
        except RecursionError:
            raise click.ClickException(f"message '{explain}' is nested too deeply to be shown") from None
        for text in lines:
            line(text)
        return
    make = converter.samples_line if kind == "samples" else converter.event_line
    for number, message in _messages():
        failed: Exception | None = None
        converted: dict[str, Any]
        if isinstance(message, dict):
            try:
                line(dumps(make(message)))
            except RecursionError as error:
                failed = error
        else:
            failed = message
        if failed is not None:
            reason = {"error": type(failed).__name__, "detail": f"line {number}: {failed}"}
            if kind == "samples":
                converted = {"message_id": None, "event_type": None, "samples": [], "errors": [reason]}
            else:
                converted = {"message_id": None, "event": None, "error": reason}
            line(dumps(converted))


def _name_left_out(site: "Site") -> None:
    for fault in site.definitions.faults:
        note(f"meterhouse: {fault}")


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
    """The messages of standard input with their line numbers; for a line that is not one, the reason."""
    from meterhouse.settings import settings
    from meterhouse.stream import too_long
    from meterhouse.stream.envelope import BadMessage
    from meterhouse.stream.files import BLOCK_BYTES, Damaged, lines

    longest, stdin = settings().message_bytes, cast(BufferedReader, sys.stdin.buffer)
    try:
        for number, text, size in lines(lambda: stdin.read1(BLOCK_BYTES), longest):
            if fault := too_long(size, longest):
                yield number, BadMessage(fault)
            elif text.strip():
                yield number, _message(text)
    except Damaged as damage:
        yield damage.number, damage


def _message(text: bytes) -> "dict[str, Any] | Exception":
    from meterhouse.conversion.bodies import read_body
    from meterhouse.stream.envelope import unwrap

    try:
        message = unwrap(text.rstrip(b"\r"))
        read = read_body(message.body)
    except (ValueError, TypeError, ArithmeticError, RecursionError) as error:
        return error
    own = read.get("message_id")
    return {**read, "message_id": own if isinstance(own, str) and own else message.message_id}


def _is(message: dict[str, Any], message_id: str) -> bool:
    return message.get("message_id") == message_id


_INTAKE = ("samples", "events", "conversion_errors", "unsigned_samples", "late_points")


@click.command()
@click.option("--follow", is_flag=True, help="Continue until stopped; print the figures every ten seconds.")
@click.option("--max-messages", type=click.IntRange(1, 10**12), help="Stop after this many messages.")
@click.option("--max-seconds", type=Seconds(), help="Stop draining after this many seconds.")
@prints(
    *("messages", "landed", "redelivered", "dead_letters", "dead_letters_known", "bytes", "batches"),
    *("landing_seconds", "idle_seconds", "seconds", *_INTAKE),
)
def collect(follow: bool, max_messages: int | None, max_seconds: float | None, printer: Printer) -> None:
    """Drain the stream into the lake, and meanwhile convert and catalog what has been landed.

    Event alarms are evaluated as events come, and what they notify of is delivered at once.
    """
    from meterhouse.alarms.at_once import AtOnce
    from meterhouse.collection.collect import Limits
    from meterhouse.collection.intake import Intake, intake
    from meterhouse.configuration import open_checked

    if follow and printer.format in ("json", "csv"):
        raise click.UsageError("--follow prints figures again and again: choose --json (JSON lines), table or value")
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
        printer.figures("collected", figures)

    def tell_of_part(part: Intake) -> None:
        if follow and (part.collected.messages or part.followed.converted.notifications):
            tell(part)

    with progress("collecting", shown=not follow) as update, ended_by_signal() as stop, AtOnce(site) as alarms:
        limits = Limits(messages=max_messages, seconds=max_seconds, follow=follow, stop=stop)
        done = intake(site, limits, progress=update, report=tell_of_part, came=alarms.came)
    if not follow:
        tell(done)


@click.command()
@click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--listing",
    "listings",
    multiple=True,
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Gnocchi's metrics or resources, as its client lists them with `-f json`. Repeatable.",
)
@click.option(
    "--label",
    "labels",
    multiple=True,
    metavar="DIMENSION=LABEL[,LABEL...]",
    help="Which labels of Prometheus, joined by /, are a dimension, such as resource_id=instance,device. Repeatable.",
)
@prints(
    *("files", "messages", "landed", "redelivered", "dead_letters", "dead_letters_known_already"),
    *("samples", "samples_known_already", *_INTAKE[1:]),
)
def load(files: tuple[Path, ...], listings: tuple[Path, ...], labels: tuple[str, ...], printer: Printer) -> None:
    """Load FILES into the lake, as if collected: notifications (JSON lines), or samples (CSV, JSON, Parquet).

    Also measures of Gnocchi (JSON), and answers of Prometheus's query_range. Texts may be compressed (.gz).

    CSV columns: timestamp,meter,resource_id,volume[,type,unit,project_id,user_id,source], also as Ceilometer and
    Gnocchi spell them. A file with a column that is not known is refused, and the others are loaded. If a file has no
    column for the meter, its name without its ending is the meter; it is also the resource of rows without one.
    """
    from meterhouse.catalog import catalog
    from meterhouse.collection.load import Names
    from meterhouse.collection.load import load as load_files
    from meterhouse.configuration import open_checked
    from meterhouse.conversion.step import convert as make

    names = Names(labels=dict(map(_label, labels)))
    for listing in listings:
        names.listings.read(listing)
    site = open_checked()
    _name_left_out(site)
    with progress("loading MB") as update:

        def told(done: int, total: int) -> None:
            update(done // 1_000_000, max(total // 1_000_000, 1))

        loaded = load_files(site, list(files), names=names, progress=told)
    with progress("converting"):
        converted = make(site)
        catalogued = catalog(site)
    done = {
        "files": loaded.files,
        "messages": loaded.messages,
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
    printer.figures("loaded", done)
    for fault in loaded.refused:
        note(f"meterhouse: {fault}")
    if loaded.refused:
        click.get_current_context().exit(1)


def _label(given: str) -> tuple[str, list[str]]:
    """A dimension and its labels."""
    from meterhouse.collection.prometheus_files import LABELS

    name, _, labels = given.partition("=")
    dimension = {"resource": "resource_id", "project": "project_id", "user": "user_id"}.get(name, name)
    if dimension not in LABELS or not labels:
        raise click.UsageError(
            f"--label {given}: write DIMENSION=LABEL[,LABEL...], with one of the dimensions {', '.join(LABELS)}"
        )
    return dimension, [label.strip() for label in labels.split(",")]


@click.command()
@prints(
    "hours",
    "points_judged",
    "excluded",
    "flagged",
    "rollups",
    "warehouse_rows",
    "periods",
    "periods_changed",
    "seconds",
)
def rollup(printer: Printer) -> None:
    """Judge the quality of dirty event hours, roll up their good points, and compute the periods of resources."""
    from meterhouse.catalog import catalog
    from meterhouse.configuration import open_checked
    from meterhouse.queries.export_states import note_stale
    from meterhouse.rollups.following import Following, follow, keep_following
    from meterhouse.rollups.step import roll_up
    from meterhouse.usage.periods import compute

    site = open_checked()
    with progress("cataloging"):
        catalog(site)
    followed = Following()
    with progress("judging and rolling up hours") as update:
        rolled = roll_up(site, progress=keep_following(site, followed, progress=update))
    with progress("following in the warehouse") as update:
        follow(site, followed, progress=update)
    with progress("computing the periods of resources, months") as update:
        periods = compute(site, progress=update)
    for fault in periods.faults:
        note(f"meterhouse: {fault}")
    for name, count in Counter(export.report for export in note_stale(site)).items():
        note(f"{count} of the exports of {name} {'is' if count == 1 else 'are'} stale: `meterhouse backfill --stale`")
    done = {
        "hours": len(rolled.hours),
        "points_judged": rolled.judged.points,
        "excluded": rolled.judged.excluded,
        "flagged": dict(rolled.judged.flagged),
        "rollups": rolled.rows,
        "warehouse_rows": followed.rows,
        "periods": periods.periods,
        "periods_changed": periods.changed,
        "seconds": round(rolled.seconds + followed.seconds + periods.seconds, 3),
    }
    printer.figures("rolled up", done)


@click.command()
@click.option("--day", type=Day(), help="The arrival day: YYYY-MM-DD, today or yesterday; default yesterday.")
@prints(
    *("day", "table_name", "rows", "duplicates", "volume_sum", "digest", "files_before", "bytes_before", "files"),
    *("bytes", "version", "day_over", "sealed_at"),
    shown=(
        *("day", "table_name", "rows", "duplicates", "volume_sum", "files_before", "bytes_before", "bytes"),
        "digest",
    ),
)
def archive(day: date | None, printer: Printer) -> None:
    """Seal an arrival day: for each table and hour, one verified file instead of many, listed in the manifest."""
    from meterhouse.archive.seal import archive as seal
    from meterhouse.archive.seal import manifest
    from meterhouse.configuration import open_checked

    site = open_checked()
    day = day or (times.now() - timedelta(days=1)).date()
    with progress(f"sealing {day}"):
        done = seal(site, day)
    note(
        f"sealed {len(done.sealed)} tables of {day}, unchanged {len(done.unchanged)}, "
        f"deleted {done.deleted_files} replaced files, {done.seconds:.1f} s"
    )
    printer.rows(manifest(site, day))


@click.command("compact")
@prints("hours", "tidied", "files_before", "files", "rows", "duplicates", "bytes_before", "bytes", "left", "seconds")
def compact_command(printer: Printer) -> None:
    """Merge the files of arrival hours that are over, and the older ones of the running hour.

    Dagster does this within minutes. If neither Dagster nor Airflow runs it, run it every few minutes.
    """
    from meterhouse.archive.compaction import compact
    from meterhouse.configuration import open_checked

    with progress("compacting") as update:
        done = compact(open_checked(), progress=update)
    printer.figures("compacted", {**vars(done), "seconds": round(done.seconds, 3)})


@click.command()
@click.argument("asset", type=Name("asset", lambda: assets(config_dir())), required=False)
@span(to_alone=False)
@click.option("--stale", "of_stale", is_flag=True, help="Recompute exactly what `meterhouse stale` lists.")
@click.option("--why", default="backfill by hand", show_default=True, help="The reason, kept with the hours.")
@prints(
    *("asset", "hours", "changed_hours", "notifications", "rows", "errors", "event_hours"),
    *("points", "excluded", "rollups", "days", "months", "evidence", "kept", "resources", "periods", "changed"),
    *("unreadable", "seconds"),
)
def backfill(
    asset: str | None, start: datetime | None, end: datetime | None, of_stale: bool, why: str, printer: Printer
) -> None:
    """Recompute ASSET over a span: samples, events, sample_quality, rollups, resource_periods, archive or a report.

    Samples and events are converted again from what was landed, by the definitions of now; their span is of arrival
    time, as that of `archive`. Periods are made of whole months again, and so are those of all later months. If it is
    stopped, the same command continues it. With --stale, and without a span, exactly the hours are recomputed that
    were made by definitions, rules or policies of the past.
    """
    from meterhouse.configuration import open_checked
    from meterhouse.recompute import backfill as recompute
    from meterhouse.recompute import backfill_stale

    if of_stale:
        if start is not None:
            raise click.UsageError("--stale takes no --from and no --to: it recomputes what is stale")
        with ExitStack() as shown:

            def bar(name: str) -> "Progress":
                shown.close()  # one at a time
                return shown.enter_context(progress(f"recomputing {name}"))

            found = backfill_stale(open_checked(), asset, progress=bar)
        _note_faults(*found.values())
        printer.rows([{"asset": name, **done} for name, done in found.items()])
        return
    if asset is None:
        raise click.UsageError("name an ASSET, or give --stale")
    if start is None or end is None:
        raise click.UsageError("--from is needed: the start of the span to recompute")
    site = open_checked()
    with progress(f"recomputing {asset}") as update:
        done = recompute(site, asset, start, end, why=why, progress=update)
    _note_faults(done)
    printer.figures("backfilled", done)


def _note_faults(*done: dict[str, Any]) -> None:
    """Show what is wrong in the definitions of resources, and leave it out of the figures."""
    for figures in done:
        for fault in figures.pop("faults", ()):
            note(f"meterhouse: {fault}")
        if kept := figures.get("kept"):
            note(f"meterhouse: {kept} rows of evidence stay as they are: their notifications are no longer landed")


SHOWN = 4
"""How many changes a table lists."""


@click.command("stale")
@click.argument("asset", type=Name("asset", lambda: [*DEFINED, *reports.names(config_dir())]), required=False)
@prints("asset", "from", "to", "hours", "why", "files", "since", prose=("why", "files"))
def stale_command(asset: str | None, printer: Printer) -> None:
    """List what definitions, quality rules, archive policies or derived meters of the past have made, and old exports.

    Hours of samples and events are those of arrival. Exports of reports are stale if what they are made of was
    recomputed since. `meterhouse backfill --stale` recomputes exactly what is listed.
    """
    from meterhouse.configuration import open_checked
    from meterhouse.queries.export_states import stale_exports
    from meterhouse.stale import stale

    rows = []
    site = open_checked()
    for each in stale(site, asset) if asset is None or asset in DEFINED else []:
        why: Sequence[str] = each.changed
        if not printer.is_json and len(why) > SHOWN:
            why = [*why[:SHOWN], f"and {len(why) - SHOWN} more"]
        listed = {"asset": each.asset, "from": each.start, "to": each.end, "hours": each.hours}
        rows.append({**listed, "why": list(why), "files": list(each.files), "since": each.since})
    for export in stale_exports(site, asset) if asset not in DEFINED else []:
        hours = (export.end - export.start) // times.HOUR
        listed = {"asset": export.report, "from": export.start, "to": export.end, "hours": hours}
        rows.append({**listed, "why": [export.why], "files": [], "since": None})
    printer.rows(rows)


@click.command("upkeep")
@prints("part", "deleted", "finding", prose=("finding",))
def upkeep_command(printer: Printer) -> None:
    """Delete what is older than it is kept for, and files that nothing refers to.

    The settings METERHOUSE_KEEP_* say for how long things are kept. If neither Dagster nor Airflow runs this, run it
    each day. A part that fails does not stop the others; the exit status is then 1.
    """
    from meterhouse.site import Site
    from meterhouse.upkeep import PARTS, upkeep

    with progress("upkeep") as update:
        done = upkeep(Site.open(), progress=update)
    printer.rows(
        [{"part": name, "deleted": done.deleted.get(name, 0), "finding": done.finding(name)} for name in PARTS]
    )
    done.check()
