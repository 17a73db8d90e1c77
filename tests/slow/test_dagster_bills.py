"""Bills in Dagster: a partition is a month, and each day's run makes those of its month."""

import warnings
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from bills import PRICES, day, lives

from meterhouse import settings as settings_module
from meterhouse.billing import closing
from meterhouse.site import Site

with warnings.catch_warnings(), pytest.MonkeyPatch.context() as environment:
    warnings.simplefilter("ignore")  # BackfillPolicy is beta in this version of Dagster, and says so at each use
    environment.setenv("METERHOUSE_PARTITIONS_FROM", "2024-01-01")
    settings_module.settings.cache_clear()
    import dagster as dg

    import definitions
    from assets import resources
    from sensors import schedules
settings_module.settings.cache_clear()

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::dagster.BetaWarning")]


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """The site that assets and sensors open by themselves, with prices."""
    (tmp_path / "prices.yaml").write_text(PRICES, encoding="utf-8")
    monkeypatch.setenv("METERHOUSE_HOME", str(tmp_path))
    monkeypatch.setenv("METERHOUSE_CONFIG_DIR", str(tmp_path))
    settings_module.settings.cache_clear()
    resources.open_site.cache_clear()
    yield resources.open_site()
    resources.open_site().warehouse.engine.dispose()
    settings_module.settings.cache_clear()
    resources.open_site.cache_clear()


def _made(month: str) -> dict[str, dg.MetadataValue]:
    job = definitions.defs.resolve_job_def("bill_month")
    with dg.DagsterInstance.ephemeral() as instance:
        done = job.execute_in_process(partition_key=month, instance=instance)
        (event,) = done.asset_materializations_for_node("bills")
    return dict(event.metadata)


def test_a_partition_has_the_bills_of_its_month(here: Site) -> None:
    lives(here, "i1", day(1))
    made = _made("2026-10")
    assert made["dagster/row_count"].value == 2
    assert "35.41" in str(made["totals"].value)
    assert made["closed"].value is False
    folder = Path(here.settings.lake) / "exports" / "bills"
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        f"2026-10.{ending}" for ending in ("html", "csv", "json", "parquet", "focus.csv", "focus.parquet")
    )
    closing.close(here, "2026-10", "ann")
    assert _made("2026-10")["closed"].value is True


def test_each_day_the_bills_of_yesterdays_month_are_made(here: Site, tmp_path: Path) -> None:
    def request(moment: datetime) -> str | None:
        found = schedules.bill(dg.build_schedule_context(scheduled_execution_time=moment))
        return found.partition_key if isinstance(found, dg.RunRequest) else None

    assert request(datetime(2026, 11, 30, 2, 10, tzinfo=UTC)) == "2026-11"
    assert request(datetime(2026, 12, 1, 2, 10, tzinfo=UTC)) == "2026-11"
    (tmp_path / "prices.yaml").write_text("currency: EUR\nprices: []\n", encoding="utf-8")
    assert request(datetime(2026, 12, 1, 2, 10, tzinfo=UTC)) is None
