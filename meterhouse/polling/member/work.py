"""One task: polled, and its samples made ready to be stored."""

import logging
import time

from msgspec.structs import replace

from meterhouse.errors import MeterhouseError
from meterhouse.polling.asking import Asking
from meterhouse.polling.batches import SlotNote, batch
from meterhouse.polling.member.results import Ready
from meterhouse.polling.polled import Permanent
from meterhouse.polling.pollster import Scheduled
from meterhouse.polling.record import Claimed, Failed, rest_as_json
from meterhouse.untrusted import printable

log = logging.getLogger(__name__)


def poll(claim: Claimed, scheduled: Scheduled, asking: Asking, member: str) -> Ready | Failed:
    """Poll a task; whatever goes wrong is its result.

    Args:
        claim: the task.
        scheduled: its pollster and source, as this member knows them.
        asking: what to ask with.
        member: the name of this member.
    """
    started = time.monotonic()
    try:
        polled = scheduled.pollster.poll.poll(asking, claim.slot, claim.piece, scheduled.source)
        note = replace(
            _note(claim, asking, member),
            seconds=round(time.monotonic() - started, 4),
            resources=polled.resources,
            samples=len(polled.samples),
            rests=[rest_as_json(rest) for rest in polled.rests],
            warning=_in_short(polled.warnings),
        )
        made = batch(claim.message_id, polled.samples, note, asking.settings.telemetry_secret)
    except MeterhouseError as error:
        return Failed(claim, str(error), isinstance(error, Permanent), time.monotonic() - started)
    except Exception as error:  # a fault of a pollster must not end the member
        log.debug("%s", claim, exc_info=error)
        said = next(iter(str(error).splitlines()), "")
        said = f"this should not have happened: {type(error).__name__}: {said}"
        return Failed(claim, said, seconds=round(time.monotonic() - started, 4))
    for warning in polled.warnings:
        log.warning("%s: %s", claim, warning)
    return Ready(claim, note, made)


def _in_short(warnings: list[str]) -> str:
    """The first warning, and how many more there are; empty if there is none."""
    more = f"; and {len(warnings) - 1} more: see the log" if len(warnings) > 1 else ""
    return printable(warnings[0]) + more if warnings else ""


def given_up(claim: Claimed, reason: str, asking: Asking, member: str) -> Ready:
    """An empty batch for a task that is to be recorded as missed, though its last owner may have polled it.

    Whichever batch of the task is landed first counts. So an owner that was paused cannot land samples later of what
    is recorded as missed; and if it has landed them, they are found.
    """
    note = replace(_note(claim, asking, member), missed=reason)
    return Ready(claim, note, batch(claim.message_id, [], note, asking.settings.telemetry_secret))


def _note(claim: Claimed, asking: Asking, member: str) -> SlotNote:
    return SlotNote(
        source=claim.slot.source,
        pollster=claim.slot.pollster,
        host=claim.slot.host,
        start=claim.slot.start,
        end=claim.slot.end,
        shard=claim.shard,
        member=member,
        generation=claim.generation,
        polled_at=asking.now(),
    )
