"""Retry of dead letters: what is a notification by now is landed, and only then taken from the dead letters.

A kill between the two leaves letters whose message is landed; the next retry knows that and only takes them away.
"""

import json
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import pyarrow as pa

from meterhouse import times
from meterhouse.collection.collect import INDEX
from meterhouse.collection.landing import Landing
from meterhouse.collection.syncing import sync
from meterhouse.conversion import signatures
from meterhouse.dead_letters import LEASE, TABLE, Selection, hex_id, identity, remove
from meterhouse.progress import Progress, no_progress
from meterhouse.site import Site
from meterhouse.stores.duck import one
from meterhouse.stream import Raw
from meterhouse.stream.envelope import BadMessage, unwrap

SOURCE = "dead-letters"
"""The source of what a retry lands."""

_AT_ONCE = 10_000
"""Letters that are landed in one commit."""


@dataclass
class Retried:
    """What a retry did.

    Attributes:
        letters: the letters that were tried.
        landed: the notifications that came of them and are new.
        known: letters whose notification was landed already, by an earlier retry or from the stream.
        removed: letters that were taken away, for they are landed.
        kept: letters that are no notifications still, `reasons` says why.
    """

    letters: int = 0
    landed: int = 0
    known: int = 0
    removed: int = 0
    kept: int = 0
    reasons: Counter[str] = field(default_factory=Counter)


def retry(site: Site, selection: Selection, *, progress: Progress = no_progress) -> Retried:
    """Unwrap the selected letters again, with the present code and settings, and land what is a notification.

    A letter that holds a polled sample with a wrong signature is landed as a batch of this sample where its signature
    is right by the present secret, or none is set. The landed is converted by the next conversion.

    Raises:
        AlreadyRunning: another process takes letters away.
        UnknownName: there is no letter of one of the ids; nothing was tried.
        MeterhouseError: the lake cannot be reached; what was landed goes with the next retry.
    """
    done = Retried()
    gone: list[pa.Table] = []
    site.lake.written()  # from here on it is noted
    with site.warehouse.lease(LEASE), site.lake.connect() as duck:
        selection.view(duck, site.lake, site.lake.version(TABLE))
        total, oldest = one(duck, "SELECT count(*), min(received_at) FROM selected")
        if not total:
            return done
        landing = Landing(site.lake, site.settings.home_path / INDEX, _hours(site, oldest), SOURCE)
        rows = duck.sql("SELECT arrival_hour, letter_id, received_at, queue, body FROM selected")
        for batch in rows.to_arrow_reader(_AT_ONCE):
            letters = pa.Table.from_batches([batch])
            landed = _land(landing, letters, site.settings.telemetry_secret, done)
            gone.append(letters.select(["arrival_hour", "letter_id", "received_at"]).take(landed))
            progress(done.letters, total)
        landing.close()
        sync(set(site.lake.written()))
        done.removed = remove(site.lake, pa.concat_tables(gone))
    return done


def _hours(site: Site, oldest: datetime) -> int:
    """Over how many hours of arrivals a message is known: as far back as it would have been when the oldest came."""
    return site.settings.redelivery_hours + max(0, -((oldest - times.now()) // times.HOUR))


def _land(landing: Landing, letters: pa.Table, secret: str, done: Retried) -> pa.Array:
    """Land what is a notification; return the places of these letters."""
    raws, places = [], []
    for place, letter in enumerate(letters.to_pylist()):
        try:
            raws.append(_again(letter, secret))
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


def _again(letter: dict[str, Any], secret: str) -> Raw:
    """What to land of a letter.

    Raises:
        BadMessage: it is no notification still.
    """
    if identity(letter["queue"], letter["body"]) == letter["letter_id"]:
        unwrap(letter["body"])
        return Raw(letter["body"], letter["queue"])
    return Raw(_as_batch(letter["letter_id"], letter["body"], letter["received_at"], secret), letter["queue"])


def _as_batch(letter_id: int, body: bytes, received_at: datetime, secret: str) -> bytes:
    """The notification that holds the polled sample of a letter, just as it was signed, and nothing else.

    Its message_id follows from the letter's, so that it is landed once.
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
