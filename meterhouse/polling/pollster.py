"""What polls what: sources, pollsters, and what every kind of pollster can do."""

from dataclasses import dataclass
from typing import Final, Protocol

from meterhouse.polling.asking import Asking
from meterhouse.polling.polled import Piece, Polled, Slot

HOST_NAMESPACES: Final = frozenset({"compute", "ipmi"})
"""Namespaces of pollsters that tell of the host that they run on. Any member can poll those of other namespaces."""


def hosts_of(namespaces: frozenset[str], host: str) -> tuple[str, ...]:
    """Whose tasks a process may claim: `""` for those that any member can poll, and its own host's."""
    any_member = ("",) if namespaces - HOST_NAMESPACES else ()
    own = (host,) if namespaces & HOST_NAMESPACES else ()
    return any_member + own


@dataclass(frozen=True)
class Source:
    """What is polled how often: an entry of polling.yaml.

    Attributes:
        name: unique among the sources.
        interval: seconds, > 0.
        meters: patterns of pollsters' names: globs, or `!` and a glob for what is not polled.
        resources: fixed URIs that are polled in place of what the pollsters discover.
        discovery: discoveries that find what is polled, in place of the pollsters' own: `name` or `name:parameter`.
        shards: into how many tasks the resources of a slot are divided; 0: by the number of resources.
    """

    name: str
    interval: int
    meters: tuple[str, ...]
    resources: tuple[str, ...] = ()
    discovery: tuple[str, ...] = ()
    shards: int = 0


class Poll(Protocol):
    """What a kind of pollster makes of an entry of pollsters.d: it asks, and makes samples of the answers.

    It is used by several threads at the same time.
    """

    def poll(self, asking: Asking, slot: Slot, piece: Piece, source: Source) -> Polled:
        """Ask for the resources of this piece.

        Args:
            asking: what to ask with.
            slot: for which slot; pollsters of services with a history ask for what was in it.
            piece: which of the resources.
            source: with the resources and discoveries that are used in place of the pollster's own.

        Raises:
            PollError: nothing could be polled.
        """
        ...

    def size(self, asking: Asking, source: Source) -> int:
        """How many resources there are to divide among tasks: endpoints, projects, targets; discovered now.

        Raises:
            PollError: they cannot be discovered.
        """
        ...


@dataclass(frozen=True)
class Pollster:
    """An entry of pollsters.d.

    Attributes:
        name: that sources select it by; for most kinds the meter's name.
        namespaces: which members poll it, `central` if the entry has none.
        kind: the name of its package in `meterhouse.polling.kinds`.
        history_seconds: for how long what it asks keeps its past, so that missed slots can be made up; 0: it does not.
        description: what it measures, in a sentence; may be empty.
        poll: what polls.
        digest: of the entry: another one after any change.
        where: file and line of the entry.
    """

    name: str
    namespaces: frozenset[str]
    kind: str
    history_seconds: int
    description: str
    poll: Poll
    digest: str
    where: str


@dataclass(frozen=True)
class Scheduled:
    """A pollster of a source: what has one slot an interval.

    Attributes:
        of_host: whether it tells of the host that it runs on, so that each host has slots of its own.
        digest: of all that decides what is polled: another one after any change of the source or the pollster.
    """

    source: Source
    pollster: Pollster
    of_host: bool
    digest: str
