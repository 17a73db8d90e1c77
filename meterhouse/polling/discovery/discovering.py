"""Discoveries by their names: Ceilometer's `endpoint`, `tenant`, `local_node`, and `list`, which is ours."""

import socket
from collections.abc import Callable, Mapping
from typing import Any, Final

from meterhouse.errors import near_misses
from meterhouse.polling.asking import Asking
from meterhouse.polling.asking.addresses import joined, shown_url
from meterhouse.polling.polled import Permanent, PollError

SECONDS: Final = 20.0
"""Time limit of a request of a discovery."""


def discover(asking: Asking, discovery: str) -> list[str]:
    """What a discovery finds, each once.

    Args:
        asking: what to ask with.
        discovery: `name`, `name:parameter` or `name://parameter`, as in polling.yaml.

    Raises:
        PollError: it cannot be asked.
        Permanent: there is no such discovery, or it finds nothing by design.
    """
    name, _, parameter = discovery.partition(":")
    found = DISCOVERIES.get(name)
    if found is None:
        near = near_misses(name, sorted(DISCOVERIES))
        hint = f"Did you mean {near[0]}?" if near else f"Known: {', '.join(sorted(DISCOVERIES))}"
        raise Permanent(f"there is no discovery '{name}'", hint=hint)
    return list(dict.fromkeys(found(asking, parameter.removeprefix("//"))))


def endpoints(asking: Asking, service_type: str) -> list[str]:
    """The URLs of a type of service in Keystone's catalogue.

    Raises:
        PollError: Keystone does not answer.
        Permanent: there are none.
    """
    if not service_type:
        raise Permanent("the discovery 'endpoint' needs a type of service, such as endpoint:compute")
    return asking.tokens.endpoints(service_type)


def _tenants(asking: Asking, _: str) -> list[str]:
    """The ids of the projects that the account sees ("List projects" of Keystone's API)."""
    wanted = {"enabled": "true"} if asking.endpoints.ignore_disabled_projects else {}
    return asking.tokens.projects(**wanted)


def _local_node(asking: Asking, _: str) -> list[str]:
    return [socket.gethostname()]


def _list(asking: Asking, parameter: str) -> list[str]:
    """What a list of JSON names: `list:URL`, or `list:TYPE/PATH` below an endpoint; after `#`, the key of its name.

    Entries are texts, or mappings that have a text under the key (`url` or `id` without one).
    """
    import orjson

    address, _, key = parameter.partition("#")
    if "://" not in address:
        service_type, _, path = address.partition("/")
        address = joined(endpoints(asking, service_type)[0], path)
    answer = asking.get(address, seconds=SECONDS)
    try:
        found = orjson.loads(answer.body)
    except ValueError:
        raise PollError("the list is not JSON", where=shown_url(address)) from None
    if isinstance(found, dict):
        found = next((each for each in found.values() if isinstance(each, list)), None)
    if not isinstance(found, list):
        raise PollError("the answer has no list", where=shown_url(address))
    names = [_name(each, key) for each in found]
    if None in names:
        raise PollError(
            f"entry {names.index(None) + 1} of the list has no text under '{key or 'url'}'", where=shown_url(address)
        )
    return [each for each in names if each is not None]


def _name(entry: Any, key: str) -> str | None:
    if isinstance(entry, dict):
        for each in (key,) if key else ("url", "id"):
            if isinstance(entry.get(each), str):
                return str(entry[each])
        return None
    return entry if isinstance(entry, str) else None


DISCOVERIES: Final[Mapping[str, Callable[[Asking, str], list[str]]]] = {
    "endpoint": endpoints,
    "tenant": _tenants,
    "local_node": _local_node,
    "list": _list,
}
"""The discoveries by their names."""
