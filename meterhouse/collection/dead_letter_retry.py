"""Retries dead letters: a letter that is a notification now is landed, and only then removed.

A kill between the two leaves letters whose message is landed. The next retry recognises them and only removes them.
"""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from meterhouse import times
from meterhouse.collection.collect import INDEX
from meterhouse.collection.landing import Landing
from meterhouse.conversion import signatures
from meterhouse.dead_letters import LEASE, TABLE, Selection, hex_id, identity, remove
from meterhouse.progress import Progress, no_progress
from meterhouse.settings import Settings
from meterhouse.site import Site
from meterhouse.stores.disk import sync
from meterhouse.stores.duck import one
from meterhouse.stream import Raw, too_long
from meterhouse.stream.envelope import BadMessage, unwrap

SOURCE = "dead-letters"
"""The source of messages that a retry lands."""

_AT_ONCE, _BYTES_AT_ONCE = 10_000, 32 << 20
"""The number of letters, and of bytes of them, that are landed in one commit at most; one letter may have more."""


@dataclass
class Retried:
    """What a retry did.

    Attributes:
        letters: letters that were retried.
        landed: new notifications that were landed.
        known: letters whose notification was already landed, by an earlier retry or from the stream.
        removed: letters that were removed because they are landed.
        kept: letters that are still not notifications.
        reasons: why letters were kept, with counts.
    """

    letters: int = 0
    landed: int = 0
    known: int = 0
    removed: int = 0
    kept: int = 0
    reasons: Counter[str] = field(default_factory=Counter)


def retry(site: Site, selection: Selection, *, progress: Progress = no_progress) -> Retried:
    """Unwrap the selected letters again, with the present code and settings, and land those that are notifications.

    A letter with a polled sample whose signature was wrong is landed as a batch of this sample, if the signature is
    valid with the present secret, or no secret is set. The next conversion converts what was landed.

    Raises:
        AlreadyRunning: another process is removing letters.
        UnknownName: no letter has one of the ids; nothing was retried.
        MeterhouseError: the lake cannot be reached; the next retry removes the letters that were landed.
    """
    done = Retried()
    gone: list[pa.Table] = []
    site.lake.written()  # starts to record written files
    with site.warehouse.lease(LEASE) as lease, site.lake.connect() as duck:
        site.lake.fence(lease, TABLE)
        selection.view(duck, site.lake, site.lake.version(TABLE))
        total, oldest = one(duck, "SELECT count(*), min(received_at) FROM selected")
        if not total:
            return done
        folder, secret = site.settings.home_path / INDEX, site.settings.telemetry_secret
        landing = Landing(site.lake, folder, _hours(site, oldest), SOURCE, secret)
        rows = duck.sql("SELECT arrival_hour, letter_id, received_at, queue, body FROM selected")
        for letters in _pieces(rows.to_arrow_reader(_AT_ONCE)):
            landed = _land(landing, letters, site.settings, done)
            gone.append(letters.select(["arrival_hour", "letter_id", "received_at"]).take(landed))
            progress(done.letters, total)
        landing.close()
        sync(set(site.lake.written()))
        done.removed = remove(site.lake, pa.concat_tables(gone), lease)
    return done


def _pieces(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.Table]:
    """The letters in pieces of a bounded number of bytes."""
    for batch in batches:
        letters = pa.Table.from_batches([batch])
        start = size = 0
        for place, length in enumerate(pc.binary_length(letters["body"]).to_pylist()):
            if size + length > _BYTES_AT_ONCE and place > start:
                yield letters.slice(start, place - start)
                start, size = place, 0
            size += length
        yield letters.slice(start)


def _hours(site: Site, oldest: datetime) -> int:
    """The hours of arrivals in which to recognise a message: as far back as when the oldest letter came."""
    return site.settings.redelivery_hours + max(0, -((oldest - times.now()) // times.HOUR))


def _land(landing: Landing, letters: pa.Table, settings: Settings, done: Retried) -> pa.Array:
    """Land the letters that are notifications; return their indexes."""
    raws, places = [], []
    for place, letter in enumerate(letters.to_pylist()):
        try:
            if fault := too_long(len(letter["body"]), settings.message_bytes):
                raise BadMessage(fault)
            raws.append(_unwrapped(letter, settings.telemetry_secret))
            places.append(place)
        except BadMessage as fault:
            done.reasons[str(fault)] += 1
    if raws:
        tally = landing.land(raws)
        done.landed += tally.landed
        done.known += tally.redelivered
    done.letters += letters.num_rows
    done.kept += letters.num_rows - len(places)
    return pa.array(places, pa.int64())


def _unwrapped(letter: dict[str, Any], secret: str) -> Raw:
    """The message to land for a letter.

    Raises:
        BadMessage: it is still not a notification.
    """
    if identity(letter["queue"], letter["body"]) == letter["letter_id"]:
        unwrap(letter["body"])
        return Raw(letter["body"], letter["queue"])
    return Raw(_as_batch(letter["letter_id"], letter["body"], letter["received_at"], secret), letter["queue"])


def _as_batch(letter_id: int, body: bytes, received_at: datetime, secret: str) -> bytes:
    """A notification with only the polled sample of a letter, exactly as it was signed.

    Its message_id is made from the letter's id, so that it is landed once.
    """
    try:
        sample = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BadMessage(f"the polled sample is not JSON: {error}") from None
    if not isinstance(sample, dict):
        raise BadMessage("the polled sample is no JSON object")
    if secret and not signatures.is_valid(sample, secret):
        raise BadMessage("the signature of the polled sample is wrong")
    header = {
        "message_id": f"dead-letter:{hex_id(letter_id)}",
        "event_type": "telemetry.polling",
        "publisher_id": SOURCE,
        "priority": "SAMPLE",
        "timestamp": times.text(received_at),
    }
    start = json.dumps(header).encode().removesuffix(b"}")
    return start + b', "payload": {"samples": [' + body + b"]}}"
