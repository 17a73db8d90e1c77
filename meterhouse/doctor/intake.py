"""Checks of intake: what waits in the stream, what was not converted, and definitions that no longer find anything."""

import json
import uuid
from collections.abc import Iterator

from sqlalchemy import select

from meterhouse.doctor.findings import Finding, State
from meterhouse.private_files import make_folder
from meterhouse.site import Site
from meterhouse.stores.warehouse_tables import runs

RUNS = 100
"""Number of latest conversions in which errors are counted."""


def stream(site: Site) -> Iterator[Finding]:
    """How much waits in each queue or folder, and whether collection as a whole keeps up."""
    from meterhouse.collection.lag import measure
    from meterhouse.stream.amqp import AmqpStream

    values = site.settings
    if values.is_spool:
        probe = values.spool / f".probe-{uuid.uuid4().hex}"
        make_folder(values.spool)
        probe.touch()
        probe.unlink()
    found = measure(site)
    for queue in found.queues:
        state: State = "ok"
        text = f"{queue.place}: nothing waits"
        if queue.missing:
            state, text = "warning", f"{queue.place}: the queue does not exist; see METERHOUSE_STREAM_QUEUES"
        elif queue.messages:
            unit = "files" if values.is_spool else "messages"
            text = f"{queue.place}: {queue.messages} {unit} wait"
            if queue.age_seconds is not None:
                text += f", the oldest for {queue.age_seconds:.0f} s"
                state = "ok" if queue.age_seconds <= values.stream_late_seconds else "warning"
        yield Finding("stream", state, text)
    if isinstance(site.stream, AmqpStream):
        for broker, exchanges in site.stream.missing_exchanges.items():
            for exchange in sorted(exchanges):
                text = f"{broker}: exchange {exchange} does not exist; see METERHOUSE_STREAM_EXCHANGES"
                yield Finding("stream", "warning", text)
    rate = "no run yet" if found.rate is None else f"the last run took {found.rate:,.0f} messages/s"
    drain = "" if not found.drain_seconds else f"; what waits takes {found.drain_seconds:,.0f} s at this rate"
    state = "ok" if found.keeps_up(values.stream_late_seconds) else "warning"
    yield Finding("collection", state, f"{rate}{drain}")


def stream_without_warehouse(site: Site) -> Iterator[Finding]:
    """How much waits in each queue or folder, as far as the stream itself reports it."""
    unit = "files" if site.settings.is_spool else "messages"
    for place in site.stream.backlog().places:
        waits = "the queue does not exist" if place.missing else f"{place.messages} {unit} wait"
        yield Finding("stream", "warning" if place.missing else "ok", f"{place.place}: {waits}")


def conversion(site: Site) -> Iterator[Finding]:
    """Whether everything landed is converted and in the catalog, and the latest conversions made no errors."""
    from meterhouse.catalog import commits_behind
    from meterhouse.conversion.step import unconverted

    landed, converted = unconverted(site), commits_behind(site)
    with site.warehouse.read() as connection:
        latest = connection.execute(
            select(runs.c.figures).where(runs.c.step == "convert").order_by(runs.c.sequence.desc()).limit(RUNS)
        ).scalars()
        figures = [json.loads(each) for each in latest]
    errors = sum(int(each.get("errors", 0)) for each in figures)
    if errors:
        first = next((error for each in figures for error in each.get("first_errors", [])), "")
        said = f"{errors} conversion errors in the latest {len(figures)} conversions"
        said += f", such as: {str(first)[:200]}" if first else ""
        yield Finding("conversion", "warning", said, "see `meterhouse convert --explain`")
    for count, what in ((landed, "landed messages wait for conversion"), (converted, "samples wait for the catalog")):
        if count:
            yield Finding("conversion", "warning", f"{count} commits of {what}", "run `meterhouse collect`")
    if not errors and not landed and not converted:
        yield Finding("conversion", "ok", "everything landed is converted and in the catalog")


def definition_paths(site: Site) -> Iterator[Finding]:
    """Whether every path of the definitions that has found a value still finds one."""
    from meterhouse.conversion.drift import drifted

    found = drifted(site)
    if not found:
        yield Finding("definition paths", "ok", "every path that has found a value still finds one")
        return
    worst = found[0]
    said = (
        f"{len(found)} paths no longer find a value; '{worst.path}' in {worst.event_type} found one in "
        f"{worst.found} of {worst.of} messages, then in none of {worst.missed}"
    )
    yield Finding("definition paths", "warning", said, "see `meterhouse definitions drift`")
