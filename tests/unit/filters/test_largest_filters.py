"""The largest conditions that are allowed run in every store."""

import json
from typing import Any

import pytest
from builders import land_points, point, roll_up
from sqlalchemy import insert, update

from meterhouse.filters import RESOURCES, SAMPLES, Condition, Filter, Match, Not, OneOf, Or, all_of
from meterhouse.filters.conditions import MAX_COMPARISONS, MAX_DEPTH, MAX_LENGTH, MAX_SEARCHES, MAX_VALUES
from meterhouse.queries.resources import resource_list
from meterhouse.queries.samples import samples
from meterhouse.scopes import EVERYTHING
from meterhouse.site import Site
from meterhouse.stores.warehouse_tables import resource_metadata, resources

KEY = "metadata.a.0.b.1.c"


def nested(leaf: Condition) -> Condition:
    while leaf.size.depth < MAX_DEPTH:
        leaf = Not(leaf) if leaf.size.depth % 2 else Or((leaf, Filter("project", "eq", "none", SAMPLES)))
    return leaf


LARGEST: dict[str, Condition] = {
    "numbers": Or(tuple(Filter(KEY, "ne", str(n), RESOURCES) for n in range(MAX_COMPARISONS))),
    "texts": all_of(Filter(KEY, "lt", f"x{n}", RESOURCES) for n in range(MAX_COMPARISONS)),
    "expressions": all_of(Match(KEY, f"{n}|.", True, RESOURCES) for n in range(MAX_SEARCHES)),
    "values": OneOf(KEY, tuple(map(str, range(MAX_VALUES))), RESOURCES),
    "long values": OneOf(KEY, (*(f"{n}{'x' * (MAX_LENGTH - 4)}" for n in range(MAX_VALUES - 1)), "7"), RESOURCES),
    "levels": nested(Filter(KEY, "eq", "7", RESOURCES)),
}


@pytest.fixture
def described(any_warehouse: Site) -> Site:
    """A site with a resource and a sample that have metadata."""
    land_points(any_warehouse, [{**point(1), "metadata_id": 1}])
    roll_up(any_warehouse)
    value: Any = {"a": [{"b": [0, {"c": 7}]}]}
    with any_warehouse.warehouse.begin() as connection:
        connection.execute(insert(resource_metadata).values(metadata_id=1, metadata=json.dumps(value)))
        connection.execute(update(resources).values(metadata_id=1))
    return any_warehouse


@pytest.mark.parametrize("name", LARGEST)
def test_the_largest_condition_finds_what_meets_it(described: Site, name: str) -> None:
    assert len(resource_list(described, EVERYTHING, query=[LARGEST[name]])) == 1
    assert samples(described, EVERYTHING, "m", query=[LARGEST[name]]).num_rows == 1
