"""The API's description: every operation says what it does, has an example, and what the examples show is answered."""

from collections.abc import Iterator
from typing import Any

import pytest
from api_examples import Asking, fill
from api_server import client

from meterhouse.api.app import create_app
from meterhouse.api.reference.description import described, operations
from meterhouse.api.reference.examples import examples
from meterhouse.site import Site


@pytest.fixture
def description(site: Site) -> dict[str, Any]:
    return described(create_app(site))


def test_every_operation_and_parameter_says_what_it_means_and_has_an_example(description: dict[str, Any]) -> None:
    shown = {each.operation for each in examples()}
    faults = list(_faults(description, shown))
    assert not faults
    known = {name for name, _ in operations(description)}
    assert shown <= known, "an example of a path that is gone"


def _faults(description: dict[str, Any], shown: set[str]) -> Iterator[str]:
    for name, operation in operations(description):
        if name not in shown:
            yield f"{name} has no example"
        if not operation.get("description", "").endswith("."):
            yield f"{name} has no description in sentences"
        for parameter in operation.get("parameters", []):
            if not parameter.get("description"):
                yield f"{name}: the parameter {parameter['name']} has no description"
        for status, answer in operation["responses"].items():
            if not answer.get("description"):
                yield f"{name}: the answer {status} has no description"


def test_what_the_examples_show_is_what_a_site_answers(site: Site) -> None:
    fill(site)
    with client(site) as asks:
        asking = Asking(asks)
        faults = [fault for example in examples() for fault in asking.ask(example)]
    assert not faults, "\n".join(faults)
