"""Pages of resources show of each what its samples say that a query asks for, whatever is rolled up."""

import json
import random
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

import pytest
from builders import at, land_points, point, roll_up
from sqlalchemy import insert

from meterhouse import identity
from meterhouse.filters import SERIES, Condition, Filter
from meterhouse.queries.resource_pages import Listed, resource_page
from meterhouse.sample_quality.step import judge_hours
from meterhouse.scopes import EVERYTHING, Scope
from meterhouse.site import Site
from meterhouse.stores.warehouse_tables import resource_metadata

STEP = 13
"""Minutes between samples, so that they are at different places of their hours."""


def sample(n: int, resource: str, meter: str, project: str, source: str, metadata: int) -> dict[str, Any]:
    """A sample of a resource; the larger n, the later."""
    made = point(n % 7, at(n * STEP), meter=meter, resource=resource, project=project, sample_id=n)
    dims = (source, meter, "gauge", "u", resource, project, "u1")
    return {**made, "source": source, "series_id": identity.series_id(*dims), "metadata_id": metadata}


def some_samples(seed: int) -> Iterator[dict[str, Any]]:
    """Two days of three resources, whose owner, source and metadata change, with gaps."""
    chance = random.Random(seed)
    for resource in ("r1", "r2", "r3"):
        metadata, n = 1, chance.randrange(40)
        while n < 48 * 60 // STEP:
            project, source = ("p1", "p2")[n > 120], ("openstack", "dc2")[n % 9 == 0]
            if chance.random() < 0.1:
                metadata = chance.randint(1, 3)
            for meter in ("cpu", "memory")[: chance.randint(1, 2)]:
                yield sample(n, resource, meter, project, source, metadata)
            n += 1 if chance.random() < 0.9 else chance.randrange(30)


@pytest.fixture(params=["rolled up", "half rolled up", "not rolled up"])
def filled(request: pytest.FixtureRequest, site: Site) -> tuple[Site, list[dict[str, Any]]]:
    samples = list(some_samples(7))
    with site.warehouse.begin() as connection:
        metadata = [{"metadata_id": n, "metadata": json.dumps({"flavor": n})} for n in (1, 2, 3)]
        connection.execute(insert(resource_metadata), metadata)
    half = sorted(samples, key=lambda each: each["timestamp"])
    cut = {"rolled up": len(half), "half rolled up": len(half) * 2 // 3, "not rolled up": 0}[request.param]
    for some in (half[:cut], half[cut:]):
        if some:
            land_points(site, some)
        if some is not half[cut:] or cut == len(half):
            judge_hours(site)
            roll_up(site)
    return site, samples


def expected(samples: Sequence[dict[str, Any]]) -> list[tuple[Any, ...]]:
    """What samples say of their resources."""
    found = []
    for resource in sorted({each["resource_id"] for each in samples}):
        some = [each for each in samples if each["resource_id"] == resource]
        newest = max(some, key=lambda each: each["timestamp"])
        first = min(each["timestamp"] for each in some)
        last = (newest["project_id"], newest["source"], newest["timestamp"], {"flavor": newest["metadata_id"]})
        found.append((resource, first, *last))
    return found


def shown(page: Sequence[Listed]) -> list[tuple[Any, ...]]:
    return [
        (each.resource_id, each.first_sample_at, each.project_id, each.source, each.last_sample_at, each.metadata)
        for each in page
    ]


def where(**values: Any) -> list[Condition]:
    names = {"flavor": "metadata.flavor", "project": "project_id", "source": "source"}
    return [Filter(names[name], "eq", str(value), SERIES) for name, value in values.items()]


SPANS: list[tuple[datetime | None, datetime | None]] = [
    (None, None),
    (at(90), None),
    (None, at(700)),
    (at(300), at(301)),
    (at(STEP * 50), at(STEP * 50 + 1 / 60)),
    (at(500), at(44 * 60)),
    (at(100 * 60), at(101 * 60)),
]


def test_a_page_shows_what_the_matching_samples_say(filled: tuple[Site, list[dict[str, Any]]]) -> None:
    site, samples = filled
    rolled = bool(site.lake.files("rollups"))
    for start, end in SPANS:
        for chosen in ({}, {"project": "p1"}, {"source": "dc2"}, {"flavor": 2}, {"project": "p2", "flavor": 3}):
            if "flavor" in chosen and not rolled:
                continue  # until then only the newest metadata of a resource is known
            mine = [
                each
                for each in samples
                if (start is None or each["timestamp"] >= start)
                and (end is None or each["timestamp"] < end)
                and chosen.get("project", each["project_id"]) == each["project_id"]
                and chosen.get("source", each["source"]) == each["source"]
                and chosen.get("flavor", each["metadata_id"]) == each["metadata_id"]
            ]
            page = resource_page(site, EVERYTHING, SERIES, query=where(**chosen), start=start, end=end)
            if rolled:
                assert shown(page) == expected(mine), (start, end, chosen)
            else:
                assert [each[:5] for each in shown(page)] == [each[:5] for each in expected(mine)]


def test_a_former_owner_sees_what_was_its_own(filled: tuple[Site, list[dict[str, Any]]]) -> None:
    site, samples = filled
    for project in ("p1", "p2", "p3"):
        mine = [each for each in samples if each["project_id"] == project]
        page = resource_page(site, Scope(project), SERIES)
        assert [each[:5] for each in shown(page)] == [each[:5] for each in expected(mine)]
    one, two = (resource_page(site, EVERYTHING, SERIES, limit=1, after=after) for after in ("r1", "r2"))
    assert [each.resource_id for each in (*one, *two)] == ["r2", "r3"]
    assert one[0].meters == ["cpu", "memory"]
