"""Polls by a definition: finds the targets, asks each, follows its pages, and says what is left."""

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, Final

from meterhouse.definitions.entries import Faults
from meterhouse.garbage import gc_disabled
from meterhouse.polling.asking import Asking
from meterhouse.polling.asking.addresses import shown_url
from meterhouse.polling.discovery import discover, endpoints
from meterhouse.polling.kinds.dynamic.definition import Definition, compile_definition
from meterhouse.polling.kinds.dynamic.extra_metadata import ExtraMetadata, Kept
from meterhouse.polling.kinds.dynamic.gathering import Gathering, this_host
from meterhouse.polling.kinds.dynamic.samples import Sampling, timestamp_text
from meterhouse.polling.kinds.dynamic.warnings import Warnings
from meterhouse.polling.kinds.shares import kept_name, named
from meterhouse.polling.polled import Permanent, Piece, Polled, PollError, Rest, Slot, WireSample
from meterhouse.polling.pollster import Poll, Source
from meterhouse.polling.shards import shard_of

ENTRIES: Final = 5_000
"""After how many entries the further pages are left to other tasks."""

PAGES: Final = 100
"""After how many pages they are."""

MAX_WARNINGS: Final = 10


def compile_poll(entry: Mapping[str, Any], faults: Faults) -> Poll | None:
    """Compile an entry of pollsters.d.

    Args:
        entry: with the keys `meterhouse.polling.kinds.dynamic.definition.KEYS`; others are not looked at.
        faults: where its faults go.

    Returns:
        What polls; None if there are faults.
    """
    definition = compile_definition(entry, faults)
    return None if definition is None else DynamicPoll(definition)


@dataclass
class _Target:
    """What came of a target.

    Attributes:
        samples, entries: of the pages that were polled.
        page: URL of the page at which it ended, if there are further ones.
        error: why it ended there; None: because others can go on.
        warnings: about entries.
    """

    samples: list[WireSample] = field(default_factory=list)
    entries: int = 0
    page: str | None = None
    error: PollError | None = None
    warnings: Warnings = field(default_factory=Warnings)


class DynamicPoll:
    """A dynamic pollster. It is used by several threads at the same time.

    Args:
        definition: the compiled entry.
    """

    def __init__(self, definition: Definition) -> None:
        self._definition = definition
        self._extra = ExtraMetadata(definition, Kept()) if definition.extra else None

    def poll(self, asking: Asking, slot: Slot, piece: Piece, source: Source) -> Polled:
        """Ask for the resources of a piece; see `Poll.poll`."""
        targets, share = self._targets(asking, piece, source)
        if not targets:
            return Polled()
        if len(targets) == 1:
            found: list[_Target | Exception] = [self._target(asking, slot, targets[0], piece.page, share)]
        else:
            found = asking.each(lambda target: self._target(asking, slot, target, None, share), targets)
        return _together(targets, found, piece, by_entry=share is not None)

    def size(self, asking: Asking, source: Source) -> int:
        """How many endpoints, projects or other targets there are now; see `Poll.size`."""
        return len(self._found(asking, source))

    def _found(self, asking: Asking, source: Source) -> list[str]:
        """The targets: those of the source, or those that the pollster itself discovers."""
        definition = self._definition
        if definition.host_command is not None:
            return [this_host()]
        if definition.api is not None:
            assert definition.url_path is not None  # a definition of an API has it
            return [definition.url_path.text]
        if source.resources or source.discovery:
            found = [each for discovery in source.discovery for each in discover(asking, discovery)]
            return list(dict.fromkeys((*found, *source.resources)))
        if definition.discovery is not None:
            return discover(asking, definition.discovery)
        return endpoints(asking, definition.endpoint_type or "")

    def _targets(self, asking: Asking, piece: Piece, source: Source) -> tuple[list[str], tuple[int, int] | None]:
        """The targets of a piece, and the share of their entries if it is not all.

        If there are fewer targets than shards, and the entries are not in pages, the entries are divided. This rests on
        the task's own number of shards, as the source may have another one by now, and rests keep how their task was
        divided. Each task counts the targets: if their number goes past the number of shards between two tasks of one
        slot, these two divide it in different ways.
        """
        share = piece.shard, piece.shards
        if piece.resources is not None:
            targets = named(piece.resources, lambda: self._found(asking, source))
            return targets, share if piece.by_entry else None
        found = self._found(asking, source)
        if piece.shards <= 1:
            return found, None
        if len(found) < piece.shards and self._definition.next_url is None:
            return found, share
        return [each for each in found if shard_of(each, piece.shards) == piece.shard], None

    def _target(
        self, asking: Asking, slot: Slot, target: str, page: str | None, share: tuple[int, int] | None
    ) -> _Target:
        """Ask a target, page by page."""
        definition = self._definition
        made = _Target()
        is_open = asking.now() < slot.end  # otherwise it is made up from the service's history

        def seconds(limit: float) -> float:
            return asking.seconds(slot, limit)

        try:
            endpoint = self._endpoint(asking, target)
            variables = {
                "previous_slot_start": timestamp_text(slot.start - (slot.end - slot.start)),
                "slot_start": timestamp_text(slot.start),
                "slot_end": timestamp_text(slot.end),
                "resource": target,
            }
            gathering = Gathering(definition, asking, seconds, variables)
            sampling = Sampling(definition, asking.settings.sample_source)
            extra = self._extra
            made.page = page
            seen = {page} if page is not None else set()
            if definition.host_command is None:
                seen.add(gathering.url(endpoint))
            for number, answer in enumerate(gathering.pages(endpoint, page), 1):
                more: Callable[..., Any] | None = None
                if extra is not None:

                    def more(entries: list[dict[str, Any]], warnings: Warnings) -> list[Mapping[str, Any]]:
                        assert extra is not None
                        return extra.of(entries, asking, seconds, endpoint, warnings)

                if "://" not in target:  # the id of what was discovered
                    for entry in answer.entries:
                        if isinstance(entry, dict):
                            entry.setdefault("resource", target)
                with gc_disabled() if more is None else nullcontext():
                    made.samples += sampling.samples(answer.entries, answer.at, made.warnings, more, share)
                made.entries += len(answer.entries)
                made.page = answer.next_url
                if made.page is None:
                    break
                if made.page in seen:
                    made.warnings.add(
                        "its pages go round in a circle; those that were polled are kept", shown_url(target)
                    )
                    made.page = None
                    break
                seen.add(made.page)
                if made.entries >= ENTRIES or number >= PAGES:
                    break
                if is_open and asking.now() >= slot.end:
                    made.error = PollError("the slot ended before its last page")
                    break
        except PollError as error:
            made.error = error
        return made

    def _endpoint(self, asking: Asking, target: str) -> str:
        """The address of a target: itself, or if it is not a URL but an id, the endpoint of the service."""
        definition = self._definition
        if "://" in target or definition.host_command is not None or definition.api is not None:
            return target
        return endpoints(asking, definition.endpoint_type or "")[0]


def _together(targets: list[str], found: list[_Target | Exception], piece: Piece, *, by_entry: bool) -> Polled:
    """What came of a piece, from what came of its targets. If it was divided by entries, so are its rests.

    Raises:
        PollError: nothing could be polled.
    """
    made = Polled()
    failed: list[tuple[str, PollError]] = []
    counted = Warnings()
    for target, each in zip(targets, found, strict=True):
        if isinstance(each, Exception):
            raise each  # a fault of this code, not of a target
        made.samples += each.samples
        made.resources += each.entries
        counted.merge(each.warnings)
        if each.error is not None and not each.entries and each.page == piece.page:
            failed.append((target, each.error))
        elif each.page is not None:
            rest = Piece(piece.shard, piece.shards, each.page, (kept_name(target),), by_entry)
            made.rests.append(Rest(rest, None if each.error is None else str(each.error)))
        elif each.error is not None:
            failed.append((target, each.error))
    if failed:
        first = failed[0][1]
        if len(failed) == len(targets):
            if len(failed) == 1:
                raise first
            kind = Permanent if all(isinstance(error, Permanent) for _, error in failed) else PollError
            raise kind(f"{first}; and {len(failed) - 1:,} more targets failed")
        others = f"; and {len(failed) - 1:,} more" if len(failed) > 1 else ""
        left = Piece(piece.shard, piece.shards, None, tuple(kept_name(target) for target, _ in failed), by_entry)
        made.rests.append(Rest(left, f"{first}{others}"))
    made.warnings = list(counted.texts())[:MAX_WARNINGS]
    return made
