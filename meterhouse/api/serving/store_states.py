"""The state of all that an answer is made of: it differs after each change of the stores, and of the site's files."""

from collections.abc import Hashable
from typing import Final

from meterhouse.rollups.policy_changes import Declared
from meterhouse.site import Site

TABLES: Final = ("samples", "derived", "rollups", "events", "notifications")
"""The lake's tables that are read for answers."""


def state_of(site: Site) -> Hashable:
    """The state of a site's stores and files, or an earlier one. Two that are equal are of the same content.

    Raises:
        MeterhouseError: a store does not answer, or a file cannot be used.
    """
    return (
        site.kept.stamp(),
        *(site.lake.state(name) for name in TABLES),
        site.rules.meaning.fingerprint,
        Declared.of(site).fingerprint,
    )
