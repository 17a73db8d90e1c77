"""Keeps what was read before of entries that have a fault now, so that a slip in a file does not end polling."""

from dataclasses import replace

from meterhouse.polling.definitions.findings import named_pollster, named_source
from meterhouse.polling.definitions.loading import Polling
from meterhouse.polling.pollster import Pollster


def keep(before: Polling, now: Polling) -> Polling:
    """What is to be polled after files were read again: what they say now, and what they said of faulty entries before.

    Entries are known by their name. If one with a fault has no name, or a whole file cannot be read, everything stays
    that was in this file before and is not there now.

    Args:
        before: what was polled until now.
        now: what the files say.
    """
    faulty = {(each.file, each.entry) for each in now.faults}

    def is_kept(pollster: Pollster) -> bool:
        file = _file(pollster)
        entries = {(file, entry) for entry in ("", named_pollster("?"), named_pollster(pollster.name))}
        same = (each for each in now.pollsters if _file(each) == file and _hides(each, pollster))
        return not entries.isdisjoint(faulty) and next(same, None) is None

    faulty_sources = {entry for _, entry in faulty}
    present = {each.name for each in now.sources}
    sources = [
        each
        for each in before.sources
        if each not in now.sources
        and (
            named_source(each.name) in faulty_sources
            or (named_source("?") in faulty_sources and each.name not in present)
        )
    ]
    pollsters = [each for each in before.pollsters if is_kept(each)]
    others = [each for each in now.pollsters if not any(_hides(kept, each) for kept in pollsters)]
    return replace(
        now,
        sources=(*now.sources, *sources),
        pollsters=(*pollsters, *others),
        kept=(*(named_source(each.name) for each in sources), *(named_pollster(each.name) for each in pollsters)),
    )


def _file(pollster: Pollster) -> str:
    return pollster.where.rpartition(":")[0]


def _hides(one: Pollster, other: Pollster) -> bool:
    return one.name == other.name and not one.namespaces.isdisjoint(other.namespaces)
