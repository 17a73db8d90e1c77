"""Which kinds of rules there are, and which of the peers' we do not have."""

from typing import TypeAlias

from meterhouse.alarms.definitions.rules.absence import AbsenceRule
from meterhouse.alarms.definitions.rules.combination import CombinationRule
from meterhouse.alarms.definitions.rules.composite import KINDS, CompositeRule, Part
from meterhouse.alarms.definitions.rules.event import EventRule

Rule: TypeAlias = Part | CompositeRule | CombinationRule | EventRule | AbsenceRule

RULES: dict[str, type[Rule]] = {
    **KINDS,
    **{each.TYPE: each for each in (CompositeRule, CombinationRule, EventRule, AbsenceRule)},
}
"""Type of an alarm → its rule."""

REFUSED = {
    "prometheus": (
        "asks a Prometheus server, which is not part of this site",
        "Load its series (`meterhouse load`), and write a threshold alarm on the meter",
    ),
    "loadbalancer_member_health": (
        "asks Octavia and Heat about the members of a pool",
        "Write an event alarm or an absence alarm on what the members report",
    ),
}
"""Type of a peer's alarm → why we do not have it, and what to write instead."""
