"""Mending: everything that is derived from what was landed is checked, and recomputed where it is damaged."""

from typing import Any

from meterhouse.errors import MeterhouseError
from meterhouse.mending import histories
from meterhouse.mending.findings import Findings
from meterhouse.site import Site

STEPS = (histories.convert_what_came_since, histories.follow_samples, histories.compute)


def mend(site: Site) -> list[dict[str, Any]]:
    """Fix what can be fixed. A second run finds nothing to do.

    Returns:
        Rows of `part`, `state` (ok, fixed or failed) and `finding`; failed is what cannot be recomputed.
    """
    findings = Findings()
    for step in STEPS:
        try:
            step(site, findings)
        except MeterhouseError as error:
            findings.failed(step.__name__.replace("_", " "), str(error))
    return findings.rows
