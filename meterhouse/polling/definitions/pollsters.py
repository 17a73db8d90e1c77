"""Compiles the entries of pollsters.d: the keys that all kinds have here, the others by the entry's kind."""

import hashlib
from importlib import import_module
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

from meterhouse.definitions.entries import Faults
from meterhouse.errors import shown
from meterhouse.polling.kinds.dynamic.definition import KEYS as DYNAMIC_KEYS
from meterhouse.polling.kinds.dynamic.pollster import compile_poll as compile_dynamic
from meterhouse.polling.pollster import Poll, Pollster

KEYS: Final = frozenset({"name", "namespaces", "description", "history_seconds"})
"""The keys that all kinds have."""

MAX_HISTORY: Final = 3_660 * 86_400
"""Maximum number of seconds for which missed slots are made up."""


class Compiled(Protocol):
    """Compiles the keys of an entry that are a kind's; None if it has faults that leave nothing to poll."""

    def __call__(self, entry: dict[str, Any], faults: Faults, folder: Path | None) -> Poll | None: ...


class Kind(NamedTuple):
    """A kind of pollsters.

    Attributes:
        name: of its package in `meterhouse.polling.kinds`.
        keys: that its entries have besides.
        compile_poll: compiles them.
    """

    name: str
    keys: frozenset[str]
    compile_poll: Compiled


_OTHERS: Final = ("prometheus", "libvirt", "snmp")
"""The kinds whose entries have a key of their name. All others are `dynamic`, as in Ceilometer."""


def kind_of(entry: dict[str, Any]) -> Kind:
    """The kind of an entry. The module of one that is not `dynamic` is imported only now."""
    name = next((each for each in _OTHERS if each in entry), None)
    if name is None:
        return Kind("dynamic", DYNAMIC_KEYS, lambda entry, faults, folder: compile_dynamic(entry, faults))
    module = import_module(f"meterhouse.polling.kinds.{name}.pollster")
    return Kind(name, module.KEYS, module.compile_poll)


def compile_pollster(entry: Any, where: str, folder: Path | None) -> Pollster:
    """Compile an entry.

    Args:
        entry: its content.
        where: its file and line.
        folder: the configuration folder, with the files that entries name; None: the shipped ones.

    Raises:
        InvalidEntry: it is invalid; with all its faults.
    """
    faults = Faults()
    if not isinstance(entry, dict):
        faults.add((), f"a pollster is a mapping, not {shown(entry)}")
        faults.raise_if_any()
    name = entry.get("name")
    if name is None:
        faults.add(("name",), "is missing")
    elif not isinstance(name, str) or not name:
        faults.add(("name",), f"{shown(name)} is not a name")
    namespaces = _namespaces(entry, faults)
    history = _history(entry, faults)
    description = entry.get("description") or ""
    if not isinstance(description, str):
        faults.add(("description",), f"{shown(description)} is not a text")
    kind = kind_of(entry)
    poll = kind.compile_poll(entry, faults, folder)
    faults.raise_if_any()
    assert poll is not None  # without a fault there is one
    digest = hashlib.sha256(repr(entry).encode("utf-8", "replace")).hexdigest()
    return Pollster(str(name), namespaces, kind.name, history, description, poll, digest, where)


def unknown_keys(entry: dict[str, Any]) -> list[str]:
    """The keys that nothing reads."""
    return [str(key) for key in entry if key not in KEYS | kind_of(entry).keys]


def _namespaces(entry: dict[str, Any], faults: Faults) -> frozenset[str]:
    value = entry.get("namespaces")
    if value is None:
        return frozenset({"central"})
    names = value if isinstance(value, list) else [value]
    if not names or not all(isinstance(each, str) and each for each in names):
        faults.add(("namespaces",), f"{shown(value)} is not a namespace, such as central or compute, or a list of them")
        return frozenset()
    return frozenset(names)


def _history(entry: dict[str, Any], faults: Faults) -> int:
    value = entry.get("history_seconds")
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_HISTORY:
        faults.add(("history_seconds",), f"{shown(value)} is not a number of seconds from 0 to {MAX_HISTORY:,}")
        return 0
    return value
