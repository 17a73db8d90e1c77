"""Steps of tests of event alarms: declare them, and let events come."""

import itertools
from typing import Any

import yaml
from builders import drop, warehouse_rows

from meterhouse.alarms.keeping.apply import apply, apply_under
from meterhouse.catalog import catalog
from meterhouse.collection.collect import collect
from meterhouse.conversion.step import convert
from meterhouse.site import Site
from meterhouse.stores.leases import Lease

_numbers = itertools.count()


def declare(site: Site, *definitions: dict[str, Any], lease: Lease | None = None) -> None:
    """Declare the alarms in alarms.yaml, and apply it."""
    assert site.settings.config_dir is not None
    (site.settings.config_dir / "alarms.yaml").write_text(yaml.safe_dump({"alarms": list(definitions)}))
    done = apply(site) if lease is None else apply_under(site, lease)
    assert not done.faults


def alarm(name: str = "a", event_type: str = "compute.*", *query: dict[str, str], **more: Any) -> dict[str, Any]:
    """An event alarm as alarms.yaml has it."""
    rule = {"event_type": event_type, "query": list(query)}
    return {"name": name, "type": "event", "event_rule": rule, "alarm_actions": ["log://"], **more}


def land(site: Site, *messages: dict[str, Any]) -> None:
    """Messages come to the spool."""
    drop(site.settings.spool, f"{next(_numbers):09}.jsonl", messages)


def come(site: Site, *messages: dict[str, Any]) -> None:
    """Messages come by the stream, and are converted."""
    land(site, *messages)
    collect(site)
    convert(site)
    catalog(site)


def states(site: Site) -> dict[str, str]:
    """The states of all alarms by name."""
    return dict(warehouse_rows(site, "SELECT name, state FROM alarms ORDER BY name"))
