"""Which closed months an open bill compares with what they are now: those in which something may have changed."""

from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from bills import PRICES, day, lives
from builders import land_points, point, roll_up
from conftest import OpenSite
from sqlalchemy import insert, update

from meterhouse import times
from meterhouse.billing import closing, compared
from meterhouse.site import Site
from meterhouse.stores.warehouse_tables import dirty_hours, resource_periods

TRAFFIC = """\
currency: EUR
time_zone: UTC
prices:
  - {name: traffic, service: Network, meter: network.outgoing.bytes, unit: GiB, price: 0.10}
"""
GIB = 2**30


@pytest.fixture
def config(tmp_path: Path) -> Path:
    (tmp_path / "prices.yaml").write_text(PRICES, encoding="utf-8")
    return tmp_path


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[datetime]:
    """The starts of the closed months whose amounts were computed again."""
    found: list[datetime] = []
    real = closing.amounts

    def spied(site: Site, start: datetime, *more: Any) -> Any:
        found.append(start)
        return real(site, start, *more)

    monkeypatch.setattr(closing, "amounts", spied)
    return found


@pytest.fixture
def two_closed(open_site: OpenSite, config: Path, computed: list[datetime]) -> Site:
    """A site whose September and October are closed, and were compared since."""
    site = open_site(config_dir=config)
    lives(site, "i1", day(1, 9))
    closing.close(site, "2026-09", "ann")
    closing.close(site, "2026-10", "ann")
    with site.warehouse.begin() as connection:
        connection.execute(insert(dirty_hours), [_hour(day(5)), _hour(day(5, 11))])
    assert corrections(site) == {}
    computed.clear()
    return site


def _hour(hour: datetime) -> dict[str, Any]:
    return {"hour": hour, "marks": 1, "judged_marks": 1, "rolled_marks": 1, "marked_at": hour, "rolled_version": 7}


def corrections(site: Site, month: str = "2026-11") -> dict[tuple[str, str | None], Decimal]:
    """The amounts of the corrections in a bill, by month and resource."""
    rows = closing.make(site, month).lines.to_pylist()
    return {(row["corrects"], row["resource_id"]): row["amount"] for row in rows if row["corrects"] and row["quantity"]}


def test_a_closed_month_in_which_nothing_changed_is_not_computed_again(
    two_closed: Site, computed: list[datetime]
) -> None:
    assert corrections(two_closed) == {}
    lives(two_closed, "new", day(2, 11))
    with two_closed.warehouse.begin() as connection:
        connection.execute(update(resource_periods).values(confirmed_until=day(9, 11)))
        connection.execute(update(dirty_hours).where(dirty_hours.c.hour > day(1, 11)).values(rolled_version=9))
    assert corrections(two_closed) == {}
    assert computed == []


def test_what_changed_is_corrected_in_each_bill_until_one_is_closed(
    two_closed: Site, computed: list[datetime], monkeypatch: pytest.MonkeyPatch
) -> None:
    lives(two_closed, "late", day(31), day(1, 11))
    for _ in range(2):
        assert corrections(two_closed) == {("2026-10", "late"): Decimal("0.96")}
    assert computed == [day(1)] * 2
    monkeypatch.setattr(times, "now", lambda: day(2, 12))
    closing.close(two_closed, "2026-11", "ann", is_forced=True)
    for _ in range(2):
        assert corrections(two_closed, "2026-12") == {}
    assert computed.count(day(1, 9)) == 1  # when November was closed
    assert computed.count(day(1)) == 2 + 1 + 1  # and once more, as November corrects it
    lives(two_closed, "later", day(30), day(31))
    assert corrections(two_closed, "2026-12") == {("2026-10", "later"): Decimal("0.96")}


def _another_end(site: Site) -> None:
    with site.warehouse.begin() as connection:
        connection.execute(update(resource_periods).values(ended_at=day(31), digest=2**62 + 5))


def _another_size(site: Site) -> None:
    with site.warehouse.begin() as connection:
        connection.execute(update(resource_periods).values(vcpus=5.0, digest=77))


def _another_roll_up(site: Site) -> None:
    with site.warehouse.begin() as connection:
        connection.execute(update(dirty_hours).where(dirty_hours.c.hour == day(5)).values(rolled_version=8))


def _samples_that_ceased(site: Site) -> None:
    with site.warehouse.begin() as connection:
        connection.execute(update(resource_periods).values(confirmed_by="polls", confirmed_until=day(20)))


@pytest.mark.parametrize("change", [_another_end, _another_size, _another_roll_up, _samples_that_ceased])
def test_a_closed_month_in_which_something_changed_is_computed_again(
    two_closed: Site, computed: list[datetime], change: Callable[[Site], None]
) -> None:
    change(two_closed)
    corrections(two_closed)
    assert day(1) in computed


def test_other_types_of_resources_and_a_lost_state_let_closed_months_be_compared(
    two_closed: Site, config: Path, computed: list[datetime]
) -> None:
    Path(two_closed.lake.url, "bills", "2026-09", compared.FILE).write_text("{", encoding="utf-8")
    corrections(two_closed)
    assert computed == [day(1, 9)]
    from meterhouse.shipped import DEFAULTS

    shipped = (DEFAULTS / "resources.yaml").read_text(encoding="utf-8")
    (config / "resources.yaml").write_text(shipped + "\n# ours\n", encoding="utf-8")
    corrections(two_closed)
    assert computed == [day(1, 9), day(1, 9), day(1)]


def test_the_state_of_a_closed_month_on_every_kind_of_site(any_site: Site, tmp_path: Path) -> None:
    (tmp_path / "prices.yaml").write_text(PRICES, encoding="utf-8")
    object.__setattr__(any_site.settings, "config_dir", tmp_path)
    lives(any_site, "i1", day(1), digest=2**63 - 1)
    lives(any_site, "i2", day(1), digest=2**63 - 2)
    lives(any_site, "v1", day(1), confirmed_by="polls", confirmed_until=day(3))
    closing.close(any_site, "2026-10", "ann")
    corrections(any_site)
    (month,) = closing.closed(any_site)
    before = compared.state(any_site, month, b"", [])
    assert compared.state(any_site, month, b"", []) == before
    lives(any_site, "late", day(31))
    assert compared.state(any_site, month, b"", []) != before


def test_a_closed_month_is_compared_by_its_own_units(open_site: OpenSite, config: Path) -> None:
    (config / "prices.yaml").write_text(TRAFFIC, encoding="utf-8")
    site = open_site(config_dir=config)
    land_points(
        site,
        [
            point(
                100 * GIB * n,
                day(10).replace(minute=10 * n),
                meter="network.outgoing.bytes",
                type="cumulative",
                unit="B",
                resource="port1",
            )
            for n in range(6)
        ],
    )
    roll_up(site)
    (row,) = closing.close(site, "2026-10", "ann", is_first=True).lines.to_pylist()
    assert (row["amount"], row["quantity"]) == (Decimal("50.00"), Decimal(500))
    (config / "units.yaml").write_text("units:\n  B: {of: MB, factor: 1/1000000}\n", encoding="utf-8")
    assert corrections(site) == {}
