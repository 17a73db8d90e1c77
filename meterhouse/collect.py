"""Collection: drain the stream, land the messages in the lake, and only then let the stream forget them."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

import pyarrow as pa

from meterhouse import times
from meterhouse.dead_letters import Letter, bury
from meterhouse.envelope import BadMessage, Notification, unwrap
from meterhouse.lake import BYTES, Lake
from meterhouse.progress import Progress, quiet
from meterhouse.schema import NOTIFICATIONS
from meterhouse.site import Site
from meterhouse.stream import Raw


@dataclass
class Collected:
    """What a collecting run did."""

    messages: int = 0
    landed: int = 0
    redelivered: int = 0
    dead_letters: int = 0
    dead_letters_known: int = 0
    bytes: int = 0
    batches: int = 0
    seconds: float = 0.0


def collect(
    site: Site,
    *,
    max_messages: int | None = None,
    max_seconds: float | None = None,
    progress: Progress = quiet,
) -> Collected:
    """Drain the stream until it is quiet, `max_messages` new ones are taken or `max_seconds` are over.

    Each batch is landed in the lake's `notifications` (what cannot be unwrapped: in `dead_letters`) before it is
    acknowledged. A message_id that was landed within METERHOUSE_REDELIVERY_HOURS is not landed again. A kill at any
    point loses nothing: what was not acknowledged comes again, and what was landed is then known.

    Raises:
        Busy: another process collects.
        MeterhouseError: the stream or the lake cannot be reached; nothing unlanded was acknowledged.
    """
    done = Collected()
    started, clock = times.now(), time.monotonic()
    limit = site.settings.collect_batch if max_messages is None else min(site.settings.collect_batch, max_messages)
    with site.warehouse.lease("collect"):
        for batch in site.stream.batches(limit):
            land(site.lake, batch.messages, site.settings.redelivery_hours, site.stream.name, done)
            batch.acknowledge()
            done.batches += 1
            progress(done.bytes, done.bytes + site.stream.backlog().bytes)
            # Redelivered ones do not count: a run that is cut off within a file must get further than the one before.
            fresh = done.landed + done.dead_letters
            if max_messages is not None and fresh >= max_messages:
                break
            if max_seconds is not None and fresh and time.monotonic() - clock >= max_seconds:
                break
        done.seconds = time.monotonic() - clock
        if done.messages:
            site.warehouse.record_run("collect", started, vars(done))
    return done


def land(lake: Lake, raws: Sequence[Raw], redelivery_hours: int, source: str, done: Collected) -> None:
    """Append the messages that are not landed yet to the lake, and count into `done`."""
    received = times.now()
    fresh: dict[str, Notification] = {}
    letters: list[Letter] = []
    good = 0
    for raw in raws:
        try:
            if raw.fault:
                raise BadMessage(raw.fault)
            message = unwrap(raw.body)
        except BadMessage as fault:
            letters.append(Letter(received, raw.queue, str(fault), raw.body))
            continue
        good += 1
        fresh.setdefault(message.message_id, message)
    since = times.arrival_hour(received - timedelta(hours=redelivery_hours))
    for known in _landed(lake, list(fresh), since):
        del fresh[known]
    dead = bury(lake, letters, since)
    if fresh:
        size = sum(len(message.body) for message in fresh.values())
        lake.append("notifications", _as_table(list(fresh.values()), received, source), note={BYTES: str(size)})
    done.messages += len(raws)
    done.landed += len(fresh)
    done.redelivered += good - len(fresh)
    done.dead_letters += dead
    done.dead_letters_known += len(letters) - dead
    done.bytes += sum(len(raw.body) for raw in raws)


def _landed(lake: Lake, message_ids: list[str], since: str) -> list[str]:
    """Those of the ids that were landed in an arrival hour from `since` on."""
    files = lake.files("notifications", at_least={"arrival_hour": since})
    if not files or not message_ids:
        return []
    with lake.connect() as duck:
        lake.view(duck, "notifications", files)
        duck.register("batch", pa.table({"message_id": message_ids}))
        found = duck.execute("SELECT DISTINCT message_id FROM batch SEMI JOIN notifications USING (message_id)")
        return [row[0] for row in found.fetchall()]


def _as_table(messages: list[Notification], received: datetime, source: str) -> pa.Table:
    count = len(messages)
    columns = [
        [times.arrival_hour(received)] * count,
        [m.message_id for m in messages],
        [m.event_type for m in messages],
        [m.publisher_id for m in messages],
        [m.priority for m in messages],
        pa.array([m.timestamp for m in messages], pa.int64()).cast(NOTIFICATIONS.field("timestamp").type),
        [received] * count,
        [source] * count,
        [m.body for m in messages],
    ]
    return _table(columns, NOTIFICATIONS)


def _table(columns: list[object], schema: pa.Schema) -> pa.Table:
    arrays = [
        column if isinstance(column, pa.Array) else pa.array(column, field.type)
        for column, field in zip(columns, schema, strict=True)
    ]
    return pa.Table.from_arrays(arrays, schema=schema)
