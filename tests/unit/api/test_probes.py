"""The requests that test isolation cover the whole API."""

from isolation import PROBES, operations

from meterhouse.api.app import create_app
from meterhouse.site import Site


def test_every_operation_is_probed_for_what_is_anothers(site: Site) -> None:
    known = operations(create_app(site))
    assert not known - set(PROBES), "add what could be another's to tests/isolation.py"
    assert not set(PROBES) - known, "these operations are gone"
