"""Conditions of which some comparisons are not known yet: whether they may hold, and whether they may fail.

It is the logic of Kleene, with a pair of flags for each row in place of three values.
"""

from collections.abc import Callable

import numpy as np

from meterhouse.filters import And, Condition, Leaf, Not, Or
from meterhouse.sample_quality.series_table import Flags

Both = tuple[Flags, Flags]
"""Whether something may hold, and whether it may fail; by row, or for all rows."""

UNKNOWN: Both = (np.array(True), np.array(True))


def known(holds: Flags) -> Both:
    """What is known to hold, or to fail."""
    return holds, ~holds


def weighed(condition: Condition, comparison: Callable[[Leaf], Both]) -> Both:
    """Whether a condition may hold, and whether it may fail.

    Args:
        condition: what has to hold.
        comparison: the same of a comparison. What has no value fails.
    """
    match condition:
        case And(parts):
            may, may_fail = np.array(True), np.array(False)
            for part in parts:
                one, other = weighed(part, comparison)
                may, may_fail = may & one, may_fail | other
            return may, may_fail
        case Or(parts):
            may, may_fail = np.array(False), np.array(True)
            for part in parts:
                one, other = weighed(part, comparison)
                may, may_fail = may | one, may_fail & other
            return may, may_fail
        case Not(part):
            may, may_fail = weighed(part, comparison)
            return may_fail, may
        case leaf:
            return comparison(leaf)
