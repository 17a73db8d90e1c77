"""What the deciding of an alarm by its rule is given."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from meterhouse.alarms.definitions.alarm import Alarm
from meterhouse.alarms.evaluation.windows import Window
from meterhouse.site import Site


@dataclass(frozen=True)
class Cycle:
    """A cycle of evaluation, or one of the past that is played again.

    Attributes:
        site: the site.
        moment: the end of the windows, UTC.
        states: the states of alarms by id: of those that were decided already, the new ones.
        known_at: only what had arrived until then counts; None for all.
    """

    site: Site
    moment: datetime
    states: Mapping[str, str]
    known_at: datetime | None = None


@dataclass(frozen=True)
class Given:
    """An alarm to be decided.

    Attributes:
        alarm_id: its id.
        alarm: its definition.
        project_id: whose it is; empty for the operators'.
        state: its state before.
        windows: of each window that its rule wants, in their order, what it has.
    """

    alarm_id: str
    alarm: Alarm
    project_id: str
    state: str
    windows: tuple[Window, ...]
