"""Hours that were rolled up by other archive policies or derived meters than those of now: they are computed again.

Each hour keeps the fingerprint of what was declared when it was rolled up, and the warehouse what each fingerprint
meant. An hour is out of date only if the meaning has changed for a meter that may have points in it: so neither another
name or comment, nor a new release whose files mean the same, recomputes anything. Nor does an hour of a release that
kept no fingerprint, or none of derived meters.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

from sqlalchemy import Connection, func, select, update

from meterhouse import meanings
from meterhouse.catalog import hours_of_meters
from meterhouse.definitions import archive_policies, derived_meters
from meterhouse.definitions.archive_policies import Policies
from meterhouse.definitions.derived_meters import DerivedMeters
from meterhouse.definitions.meanings import changes, fingerprint
from meterhouse.errors import DefinitionError
from meterhouse.site import Site
from meterhouse.stores.leases import Lease
from meterhouse.stores.warehouse_tables import dirty_hours

HOURS_AT_ONCE = 31 * 24
"""Maximum number of hours that become dirty at once, so that a change does not block a site of many years."""

WHY = "the archive policies or derived meters changed"

_DERIVED = "derived_meters"
"""The key of what derived meters mean, beside those of the policies."""


@dataclass(frozen=True)
class Declared:
    """What the site's files declare of roll-ups, at one moment."""

    policies: Policies
    derived: DerivedMeters

    @classmethod
    def of(cls, site: Site) -> "Declared":
        """What they declare now.

        Raises:
            DefinitionError: a file as a whole cannot be read.
        """
        return cls(site.policies, derived_meters.load(site.settings.config_dir))

    @cached_property
    def text(self) -> str:
        """All that decides on rows and derived points, as JSON text."""
        return json.dumps({**json.loads(self.policies.meaning), _DERIVED: self.derived.meaning}, sort_keys=True)

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the meaning."""
        return fingerprint(self.text)

    @cached_property
    def files(self) -> dict[str, str]:
        """File → hash of what it says."""
        of_derived = json.dumps(self.derived.meaning, sort_keys=True)
        return {archive_policies.FILE: self.policies.fingerprint, derived_meters.FILE: fingerprint(of_derived)}

    @property
    def has_faults(self) -> bool:
        """Whether a policy, a rule or a derived meter cannot work: the file is about to change again."""
        return bool(self.policies.faults or self.derived.faults)

    def changes_since(self, text: str) -> list[str]:
        """What has changed since another text, such as `derived meter cpu_util changed`."""
        before, now = json.loads(text), json.loads(self.text)
        if _DERIVED not in before:  # an earlier release did not keep it
            now = {key: value for key, value in now.items() if key != _DERIVED}
        return changes(_labelled(before), _labelled(now)) or ["the order of the rules changed"]

    def differs_from(self, meaning: str | None) -> Callable[[str], bool]:
        """Whether another meaning gives a meter other roll-ups, or makes other meters of it, by its name.

        Args:
            meaning: the other one; None if it is not known.
        """
        if meaning is None:
            return lambda meter: True
        of_policies = archive_policies.meanings(meaning)
        of_derived = self._derives_otherwise(json.loads(meaning))
        return lambda meter: of_policies(meter) != self.policies.of(meter).meaning or of_derived(meter)

    def _derives_otherwise(self, meaning: dict[str, Any]) -> Callable[[str], bool]:
        if _DERIVED not in meaning:
            return lambda meter: False
        before, now = meaning[_DERIVED], self.derived.meaning
        try:
            changed = derived_meters.meant(
                [*(each for each in before if each not in now), *(each for each in now if each not in before)]
            )
        except DefinitionError:  # of a release with other kinds: what it was made of is not known
            return lambda meter: True
        # Also where samples of its name may have been received: they decide on whole days.
        return lambda meter: any(each.takes(meter) or each.may_make(meter) for each in changed)


def _labelled(content: dict[str, Any]) -> dict[str, Any]:
    return {
        "the default policy": content["default"],
        **{f"policy of {glob}": meaning for glob, meaning in content["rules"]},
        **{f"derived meter {each['name']}": each for each in content.get(_DERIVED, ())},
    }


def outdated(site: Site) -> int:
    """How many hours were rolled up by other files than those of now; some of them may mean the same.

    It is 0 while a policy, a rule or a derived meter cannot work: the file is about to change again.
    """
    declared = Declared.of(site)
    if declared.has_faults:
        return 0
    of_others = dirty_hours.c.policies != declared.fingerprint
    with site.warehouse.read() as connection:
        return int(connection.execute(select(func.count()).where(of_others)).scalar() or 0)


def mark_outdated(site: Site, lease: Lease) -> int:
    """Make hours dirty that were rolled up by files which mean something else; the newest first, not all at once.

    Args:
        site: the site.
        lease: that of the step `rollups`.

    Returns:
        How many hours became dirty.
    """
    declared = Declared.of(site)
    with lease.begin() as connection:
        of_others = dirty_hours.c.policies != declared.fingerprint
        is_dirty = dirty_hours.c.rolled_marks < dirty_hours.c.marks
        waiting = int(
            connection.execute(select(func.count()).select_from(dirty_hours).where(of_others, is_dirty)).scalar() or 0
        )
        before = waiting
        for fingerprint in (
            connection.execute(select(dirty_hours.c.policies).where(of_others).distinct()).scalars().all()
        ):
            waiting += _mark(connection, declared, fingerprint, max(HOURS_AT_ONCE - waiting, 0))
    return waiting - before


def _mark(connection: Connection, declared: Declared, fingerprint: str, limit: int) -> int:
    """Mark up to `limit` hours of a fingerprint. Those that the change does not concern get the one of now."""
    of_it = dirty_hours.c.policies == fingerprint
    span = concerned(connection, declared, fingerprint)
    others = update(dirty_hours).where(of_it)
    if span is not None:
        others = others.where((dirty_hours.c.hour < span[0]) | (dirty_hours.c.hour > span[1]))
    connection.execute(others.values(policies=meanings.record(connection, declared)))
    if span is None or not limit:
        return 0
    is_rolled = dirty_hours.c.rolled_marks >= dirty_hours.c.marks
    hours = select(dirty_hours.c.hour).where(of_it, is_rolled).order_by(dirty_hours.c.hour.desc()).limit(limit)
    newest = dirty_hours.c.hour.in_(list(connection.execute(hours).scalars()))
    return connection.execute(update(dirty_hours).where(newest).values(rolled_marks=0, why=WHY)).rowcount


def concerned(connection: Connection, declared: Declared, fingerprint: str) -> tuple[datetime, datetime] | None:
    """From which hour to which one there may be points of meters for which the meaning changed; None if of none."""
    kept = meanings.of(connection, fingerprint)
    return hours_of_meters(connection, declared.differs_from(kept.text if kept else None))
