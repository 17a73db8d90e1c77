"""Mending: everything that is derived from what was landed is checked, and recomputed where it is damaged or lost."""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from meterhouse.conversion import step as conversion
from meterhouse.conversion import used
from meterhouse.errors import MeterhouseError
from meterhouse.mending import derived, files, histories, logs, usage, warehouse
from meterhouse.mending.findings import Findings
from meterhouse.mending.leases import held
from meterhouse.site import Site
from meterhouse.stores.lake_tables import TABLES


def mend(site: Site) -> list[dict[str, Any]]:
    """Fix what can be fixed. A second run finds nothing to do.

    Returns:
        Rows of `part`, `state` (ok, fixed or failed) and `finding`; failed is what cannot be recomputed.
    """
    findings, lake = Findings(), _LakeState()
    steps: dict[str, Callable[[], None]] = {
        "lake": lambda: _mend_files(site, lake, findings),
        "conversion": lambda: histories.convert_what_came_since(
            site, lambda: _salvage(site, lake, "notifications", findings), findings
        ),
        "lake rows": lambda: _mend_rows(site, lake, findings),
        "catalog": lambda: histories.follow_samples(site, findings),
        "warehouse": lambda: warehouse.mend_warehouse(site, findings),
        "roll-ups": lambda: histories.compute(site, findings),
        "periods": lambda: usage.compute_periods(
            site, lake.lost, lake.suspects, lake.salvaged["notifications"].total(), findings
        ),
    }
    for part, step in steps.items():
        try:
            step()
        except MeterhouseError as error:
            findings.failed(part, str(error))
    return findings.rows


@dataclass
class _LakeState:
    """What is wrong with the tables: those that lack rows, what their damaged files held, and what was found again."""

    suspects: set[str] = field(default_factory=set)
    lost: dict[str, files.Lost] = field(default_factory=lambda: {name: files.Lost() for name in TABLES})
    salvaged: dict[str, Counter[str]] = field(default_factory=lambda: {name: Counter() for name in TABLES})


def _mend_files(site: Site, lake: _LakeState, findings: Findings) -> None:
    lake.suspects = logs.mend_logs(site, findings)
    for name in TABLES:
        lake.lost[name] = files.take_out(site, name, findings)
        if lake.lost[name].files:
            lake.suspects.add(name)
    if not findings.found("lake files"):
        findings.ok("lake files", "every file can be read")
    _salvage(site, lake, "dead_letters", findings)


def _mend_rows(site: Site, lake: _LakeState, findings: Findings) -> None:
    # After the conversion, which adds what a lost commit had converted.
    with held(site, ("convert", "load")):
        for name in conversion.TABLES:
            found = _salvage(site, lake, name, findings)
            with site.warehouse.begin() as connection:
                used.forget(connection, name, found)  # they may be of definitions of the past
    derived.recompute(site, lake.lost, lake.salvaged, findings)
    for name in lake.suspects:
        logs.dealt_with(site.lake, name)


def _salvage(site: Site, lake: _LakeState, name: str, findings: Findings) -> set[str]:
    """Look for rows that the table lacks; return their arrival hours."""
    lake.salvaged[name] = files.salvage(site, name, suspect=name in lake.suspects)
    if total := lake.salvaged[name].total():
        findings.fixed("lake files", f"{name}: {total} rows were found in files that no commit names any more")
    return set(lake.salvaged[name])
