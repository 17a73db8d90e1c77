"""Evidence and the periods of resources: evidence that is lost is read again, and all periods are computed again."""

from collections.abc import Collection, Mapping
from typing import Final

from sqlalchemy import delete

from meterhouse import history
from meterhouse.errors import WentBack
from meterhouse.mending.files import Lost
from meterhouse.mending.findings import Findings
from meterhouse.mending.leases import WAIT_SECONDS
from meterhouse.site import Site
from meterhouse.stores.lake import REPLACE
from meterhouse.stores.leases import Lease
from meterhouse.stores.warehouse_tables import resource_periods
from meterhouse.usage import evidence, periods
from meterhouse.usage.rereading import Reread, start_over

STATES: Final = "resource_states"

PART: Final = "periods"


def compute_periods(
    site: Site, lost: Mapping[str, Lost], suspects: Collection[str], salvaged: int, findings: Findings
) -> None:
    """Compute the periods of what is new; of everything, if evidence was lost, or lake or warehouse went back.

    Args:
        site: the site.
        lost: by table, what its damaged files held.
        suspects: the tables of which files or commits are lost.
        salvaged: how many notifications were found again, which may have been read before they were lost.
        findings: gets what was done.

    Raises:
        AlreadyRunning: another process is still running the step.
        DefinitionError: resources.yaml or units.yaml cannot be read.
    """
    with site.warehouse.lease(periods.STEP, wait_seconds=WAIT_SECONDS) as lease:
        why = _read_again(site, lease, lost, suspects, salvaged, findings)
        for follower, table in ((periods.OF_EVIDENCE, evidence.TABLE), (periods.OF_ROLLUPS, "rollups")):
            try:
                history.check(site, follower, table, periods.READER)
            except WentBack as error:
                why.append(error.what)
        if STATES in suspects:
            why.append(f"files or commits of {STATES} were lost")
        if why:
            _forget(site, lease)
        done = periods.compute_under(site, lease)
        if why and not done.months:  # the lake has nothing that they could be of
            with lease.begin() as connection:
                connection.execute(delete(resource_periods))
    if why:
        findings.fixed(PART, f"{'; '.join(why)}; the periods of {done.resources} resources are computed again")
    elif done.changed:
        findings.fixed(PART, f"{done.changed} periods of resources were not those of what is landed")
    else:
        findings.ok(PART, "the periods of resources are those of what is landed")


def _read_again(
    site: Site,
    lease: Lease,
    lost: Mapping[str, Lost],
    suspects: Collection[str],
    salvaged: int,
    findings: Findings,
) -> list[str]:
    """Read all evidence again, if some is lost, or it is of other notifications; return why."""
    why = []
    if evidence.TABLE in suspects:
        why.append("files or commits of evidence were lost")
    if salvaged:
        why.append("lost notifications were found again")
    try:
        evidence.check_history(site)
    except WentBack as error:
        why.append(error.what)
    if not why:
        return []
    gone, done = lost[evidence.TABLE].total, Reread()
    before = sum(site.lake.actions(evidence.TABLE)["num_records"].to_pylist()) + gone
    start_over(site, lease, done)
    findings.fixed(PART, f"{done.evidence} rows of evidence are read again from {done.notifications} notifications")
    if done.evidence < before and gone:
        missing = min(before - done.evidence, gone)
        findings.failed(PART, f"{missing} rows of evidence are gone: their notifications are no longer landed")
    return why


def _forget(site: Site, lease: Lease) -> None:
    """Let the next computation begin with the first month. It is repeated if this process is killed."""
    with lease.begin() as connection:
        for follower in (periods.OF_EVIDENCE, periods.OF_ROLLUPS):
            history.record_position(connection, follower, history.Position())
    states = site.lake.actions(STATES)
    if states.num_rows:
        site.lake.swap(STATES, states, [], {REPLACE: "mend"}, same_rows=False, lease=lease)
