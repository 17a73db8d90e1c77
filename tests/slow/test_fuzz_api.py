"""Requests that schemathesis makes from the API's own description: never a server's error, always what is described."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import schemathesis
from api_examples import fill
from api_server import served
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from meterhouse.settings import read_settings
from meterhouse.site import Site

pytestmark = pytest.mark.slow

CHECKS = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]

EXAMPLES = 15
"""Requests of each operation and role."""

ROLES: dict[str, dict[str, str]] = {
    "the operator": {},
    "a member": {"X-User-Id": "ann", "X-Project-Id": "shop", "X-Roles": "member"},
    "a reader": {"X-User-Id": "ann", "X-Project-Id": "shop", "X-Roles": "reader"},
}


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory, migrated: Path) -> Iterator[str]:
    """The URL of a site with data."""
    home = tmp_path_factory.mktemp("home")
    shutil.copy(migrated, home / "warehouse.db")
    site = Site.open(read_settings(home=home))
    fill(site)
    with served(site) as url:
        yield url
    site.warehouse.engine.dispose()


@pytest.mark.parametrize("whose", ROLES)
def test_no_request_is_a_servers_error_and_answers_are_as_described(address: str, whose: str) -> None:
    schema = schemathesis.openapi.from_url(f"{address}/openapi.json")
    faults = []
    for found in schema.get_all_operations():
        operation = found.ok()
        try:
            _ask(operation, ROLES[whose])
        except (Exception, ExceptionGroup) as error:
            faults.append(f"{operation.label}: {error}")
    assert not faults, "\n\n".join(faults)


def _ask(operation: schemathesis.APIOperation, headers: dict[str, str]) -> None:
    """Ask an operation by requests that schemathesis generates.

    Raises:
        Exception: an answer is not as described; it names the request.
    """

    @given(case=operation.as_strategy())
    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    def ask(case: schemathesis.Case) -> None:
        case.call_and_validate(headers=headers, checks=CHECKS)

    ask()
