"""Whatever changes after months were closed: what was billed in all is what the months cost."""

from collections import defaultdict
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from bills import day, lives
from conftest import OpenSite
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete, select, update

from meterhouse import times
from meterhouse.billing import closing
from meterhouse.billing.inputs import gather, rated
from meterhouse.definitions.prices import read
from meterhouse.site import Site
from meterhouse.stores.warehouse_tables import resource_periods

pytestmark = pytest.mark.slow

PRICES = """
currency: EUR
time_zone: Europe/Berlin
prices:
  - name: vcpu
    service: Compute
    where: {resource_type: instance}
    measure: vcpus
    per: hour
    graduated: [{up_to: 1000, price: 0.013}, {price: 0.007}]
  - name: instance
    service: Compute
    where: {resource_type: instance, flavor: "m1.*"}
    per: day
    price: 0.11
    included: 3
discounts:
  - {name: friends, percent: 12.5, where: {project_id: p2}}
minimums:
  - {name: least, amount: 5}
taxes:
  - {name: VAT, percent: 19}
"""

CHANGES = st.lists(
    st.one_of(
        st.tuples(st.just("new"), st.integers(0, 60), st.integers(1, 900), st.sampled_from(["p1", "p2", "p3"])),
        st.tuples(st.just("end"), st.integers(0, 5), st.integers(1, 900)),
        st.tuples(st.just("move"), st.integers(0, 5), st.sampled_from(["p1", "p2", "p3"])),
        st.tuples(st.just("grow"), st.integers(0, 5), st.sampled_from([1.0, 2.5, 8.0])),
        st.tuples(st.just("forget"), st.integers(0, 5)),
    ),
    max_size=4,
)


def change(site: Site, what: tuple[Any, ...], number: int) -> None:
    """Change the periods as late messages would."""
    table = resource_periods
    if what[0] == "new":
        start = day(1, 9) + timedelta(days=what[1], hours=number, seconds=7)
        lives(site, f"n{number}", start, start + timedelta(hours=what[2]), project_id=what[3])
        return
    with site.warehouse.begin() as connection:
        there = connection.execute(select(table.c.resource_id, table.c.started_at).order_by("resource_id")).all()
        if not there:
            return
        row = there[what[1] % len(there)]
        this = table.c.resource_id == row.resource_id
        if what[0] == "end":
            connection.execute(update(table).where(this).values(ended_at=row.started_at + timedelta(hours=what[2])))
        elif what[0] == "move":
            connection.execute(update(table).where(this).values(project_id=what[2]))
        elif what[0] == "grow":
            connection.execute(update(table).where(this).values(vcpus=what[2]))
        else:
            connection.execute(delete(table).where(this))


@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(CHANGES, CHANGES, CHANGES)
def test_what_was_billed_in_all_is_what_the_months_cost(
    open_site: OpenSite,
    tmp_path_factory: pytest.TempPathFactory,
    first: list[tuple[Any, ...]],
    second: list[tuple[Any, ...]],
    third: list[tuple[Any, ...]],
) -> None:
    config = tmp_path_factory.mktemp("config")
    (config / "prices.yaml").write_text(PRICES, encoding="utf-8")
    assert read(config / "prices.yaml").faults == ()
    site = open_site(config_dir=config)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(times, "now", lambda: day(20, 12))
        for number, (resource, project) in enumerate((("i1", "p1"), ("i2", "p2"), ("i3", "p2"))):
            lives(site, resource, day(3 + number, 9), project_id=project)
        for month, changes in (("2026-09", first), ("2026-10", second), ("2026-11", third)):
            closing.close(site, month, "ann", is_first=True)
            for number, what in enumerate(changes):
                change(site, what, 100 * int(month[-2:]) + number)
        billed: dict[tuple[str, str, bool], Decimal] = defaultdict(Decimal)
        for month in ("2026-09", "2026-10", "2026-11", "2026-12"):
            for row in closing.make(site, month).lines.to_pylist():
                about = row["corrects"] or row["month"]
                billed[about, row["project_id"], row["kind"] == "tax"] += row["amount"]
        costs: dict[tuple[str, str, bool], Decimal] = defaultdict(Decimal)
        for month in ("2026-09", "2026-10", "2026-11", "2026-12"):
            now = gather(site, month)
            for row in rated(now.amounts, now.definitions, month).lines.to_pylist():
                costs[month, row["project_id"], row["kind"] == "tax"] += row["amount"]
        assert {key: sum_ for key, sum_ in billed.items() if sum_} == {key: sum_ for key, sum_ in costs.items() if sum_}
        for month in ("2026-09", "2026-10", "2026-11"):
            assert closing.again_in_lake(site, month).differences == ()
