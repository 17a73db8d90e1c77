"""What would still show what was replaced: older data files, and the bounds of their columns in the log of a table."""

from collections.abc import Mapping
from datetime import datetime

from meterhouse import history
from meterhouse.catalog import FOLLOWER, TABLE, catalog_under
from meterhouse.conversion import step as conversion
from meterhouse.erasure.lake_rows import LEASES
from meterhouse.rollups import following
from meterhouse.site import Site
from meterhouse.stores.lake_tables import TABLES
from meterhouse.stores.leases import Lease
from meterhouse.usage import evidence, names, names_sync, periods


def delete_files(site: Site, moment: datetime, removed: Mapping[str, set[str]]) -> int:
    """Delete the data files that are no longer in their tables; return how many.

    The caller holds the leases of all steps that write tables, and landings that began before the moment begin anew.
    So what is older and not in a table will not be in one any more.

    Args:
        site: the site.
        moment: by the clock of the lake's store; files that are older go.
        removed: by table, further files that were replaced.
    """
    lake, count = site.lake, 0
    for name in TABLES:
        old = lake.written_before(name, moment) | removed.get(name, set())
        unused = sorted(old - lake.live(name))
        lake.remove([f"{lake.uri(name)}/{path}" for path in unused])
        count += len(unused)
    return count


def shorten_logs(site: Site, leases: Mapping[str, Lease]) -> None:
    """Let the log of each table begin now. Followers are brought to its start before."""
    lake = site.lake
    for name in TABLES:  # a commit of its own, because the newest one may have bounds of what was replaced before
        lake.commit(name, [], 0, transactions={}, lease=leases[LEASES[name]])
    conversion.convert_under(site, leases["convert"])
    catalog_under(site, leases["catalog"])
    following.follow_under(site, leases[following.FOLLOWER], following.Following())
    periods.compute_under(site, leases[periods.STEP])
    names_sync.take_messages(site, leases[names.LEASE], names_sync.Synced())
    starts = {name: lake.version(name) for name in TABLES}
    starts["notifications"] = min(
        *(lake.transaction(name, conversion.APP) or 0 for name in conversion.TABLES),
        lake.transaction(evidence.TABLE, evidence.APP) or 0,
        history.followed_position(site, names_sync.FOLLOWER).version,
    )
    starts[TABLE] = history.followed_position(site, FOLLOWER).version
    for follower, name in (
        (following.FOLLOWER, following.TABLE),
        (periods.OF_ROLLUPS, "rollups"),
        (periods.OF_EVIDENCE, evidence.TABLE),
    ):
        starts[name] = min(starts[name], history.followed_position(site, follower).version)
    for name, version in starts.items():
        lake.forget_before(name, version)
