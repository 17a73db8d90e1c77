"""Polls once to look at what comes of it: nothing is stored, and no task is made."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Final

from meterhouse.errors import MeterhouseError, UnknownName, UsageError
from meterhouse.polling.asking import Asking
from meterhouse.polling.definitions import Polling
from meterhouse.polling.polled import Piece, Slot, WireSample
from meterhouse.polling.pollster import Pollster, Source

MAX_TASKS: Final = 100


@dataclass
class Tried:
    """What a poll gave.

    Attributes:
        samples: as they would be landed, but for their ids.
        resources: number of entries or targets that were polled.
        tasks: how many tasks it would have been.
        errors: why something was not polled.
        warnings: about entries that gave no sample.
    """

    samples: list[WireSample] = field(default_factory=list)
    resources: int = 0
    tasks: int = 0
    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def chosen(polling: Polling, name: str, source: str | None, resources: Sequence[str]) -> tuple[Pollster, Source]:
    """A pollster, and the source that it is polled for.

    Args:
        polling: what the site polls.
        name: of the pollster.
        source: name of the source; None: the first that has the pollster, or one without resources.
        resources: to poll, in place of what the source has.

    Raises:
        UnknownName: there is no such pollster or source; if it has faults, they are in the hint.
    """
    pollster = next((each for each in polling.pollsters if each.name == name), None)
    if pollster is None:
        faults = [str(each) for each in polling.faults if each.entry == f"pollster {name}"]
        if faults:
            raise UsageError(f"the pollster '{name}' cannot be used", hint="\n".join(faults))
        raise UnknownName("pollster", name, [each.name for each in polling.pollsters])
    found = [each.source for each in polling.schedules(pollster.namespaces) if each.pollster is pollster]
    if source is not None:
        found = [each for each in polling.sources if each.name == source]
        if not found:
            raise UnknownName("source", source, [each.name for each in polling.sources])
    made = found[0] if found else Source("try", 300, (name,))
    return pollster, replace(made, resources=tuple(resources), discovery=()) if resources else made


def tried(asking: Asking, pollster: Pollster, source: Source) -> Tried:
    """Poll a pollster for the slot that is now, with all its pages.

    Raises:
        PollError: nothing can be polled.
    """
    now = asking.now()
    start = now - timedelta(seconds=now.timestamp() % source.interval)
    end = start + timedelta(seconds=source.interval)
    slot = Slot(source.name, pollster.name, start, max(end, now + timedelta(seconds=60)))
    made = Tried()
    pieces = [Piece()]
    while pieces and made.tasks < MAX_TASKS:
        piece = pieces.pop(0)
        made.tasks += 1
        try:
            polled = pollster.poll.poll(asking, slot, piece, source)
        except MeterhouseError as error:
            if made.tasks == 1:
                raise
            made.errors.append(str(error))
            continue
        made.samples += polled.samples
        made.resources += polled.resources
        made.warnings += polled.warnings
        pieces += [rest.piece for rest in polled.rests if rest.error is None]
        made.errors += [rest.error for rest in polled.rests if rest.error is not None]
    if pieces:
        made.errors.append(f"there are more than {MAX_TASKS} tasks: the others are not polled")
    return made
