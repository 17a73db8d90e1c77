"""Closed months: frozen with what they were made of, made again from files alone, corrected in later bills only."""

import json
import shutil
from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from bills import PRICES, day, lives
from builders import land_points, point
from conftest import OpenSite
from sqlalchemy import delete, select, update

from meterhouse import catalog, times
from meterhouse.billing import closing, frozen
from meterhouse.billing.inputs import not_counted
from meterhouse.doctor import findings_of
from meterhouse.errors import AlreadyRunning, Damaged, MeterhouseError, UsageError
from meterhouse.site import Site
from meterhouse.stores.warehouse_tables import closed_bills, resource_periods
from meterhouse.usage import keeping_up


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A configuration folder with prices."""
    (tmp_path / "prices.yaml").write_text(PRICES, encoding="utf-8")
    return tmp_path


@pytest.fixture
def billed(open_site: OpenSite, config: Path) -> Site:
    """A site on which an instance of 4 vCPUs has run since 1 October."""
    site = open_site(config_dir=config)
    lives(site, "i1", day(1))
    return site


def amounts(site: Site, month: str) -> dict[tuple[str, str | None], Decimal]:
    """The amounts of the lines of a bill, by kind and resource."""
    found: dict[tuple[str, str | None], Decimal] = {}
    for row in closing.make(site, month).lines.to_pylist():
        key = (row["kind"], row["resource_id"])
        found[key] = found.get(key, Decimal(0)) + row["amount"]
    return found


def folder(site: Site, month: str) -> Path:
    return Path(site.lake.url) / "bills" / month


# -- closing --------------------------------------------------------------------------------------------------


def test_a_closed_month_stays_as_it_was_whatever_changes(billed: Site, config: Path) -> None:
    open_bill = closing.make(billed, "2026-10")
    assert open_bill.closing is None
    done = closing.close(billed, "2026-10", "ann")
    lives(billed, "i2", day(5))
    (config / "prices.yaml").write_text(PRICES.replace("0.01", "5"), encoding="utf-8")
    after = closing.make(billed, "2026-10")
    assert after.lines.equals(open_bill.lines)
    assert after == done
    assert after.closing is not None
    assert after.closing.closed_by == "ann"
    assert {each.gross for each in after.totals()} == {Decimal("29.76") + Decimal("5.65")}


def test_a_bill_keeps_the_names_that_projects_had(billed: Site, config: Path) -> None:
    (config / "names.csv").write_text("kind,id,name\nproject,p1,web shop\nproject,p9,other\n", encoding="utf-8")
    assert closing.close(billed, "2026-10", "ann").projects == {"p1": "web shop"}
    (config / "names.csv").write_text("kind,id,name\nproject,p1,renamed\n", encoding="utf-8")
    assert closing.make(billed, "2026-10").of_project("web shop").lines.num_rows == 2
    assert closing.make(billed, "2026-11").name("p1") == "renamed"


def test_a_closed_bill_can_be_read_without_prices(billed: Site, config: Path) -> None:
    closing.close(billed, "2026-10", "ann")
    (config / "prices.yaml").write_text("currency: [", encoding="utf-8")
    assert closing.make(billed, "2026-10").lines.num_rows == 2


def test_the_bill_of_a_closed_month_is_made_again_from_a_copy_of_its_folder(billed: Site, tmp_path: Path) -> None:
    done = closing.close(billed, "2026-10", "ann")
    copy = tmp_path / "copy"
    shutil.copytree(folder(billed, "2026-10"), copy)
    shutil.rmtree(billed.settings.home_path)
    found = closing.again(frozen.in_folder(copy), str(copy))
    assert found.differences == ()
    assert found.made.lines.equals(done.lines)
    assert found.made.remarks == done.remarks


def test_closing_twice_is_refused_and_changes_nothing(billed: Site) -> None:
    closing.close(billed, "2026-10", "ann")
    before = {path.name: path.read_bytes() for path in folder(billed, "2026-10").iterdir()}
    lives(billed, "i2", day(5))
    with pytest.raises(MeterhouseError, match=r"2026-10 is closed already, by ann at .*Nothing was done"):
        closing.close(billed, "2026-10", "bob")
    assert {path.name: path.read_bytes() for path in folder(billed, "2026-10").iterdir()} == before


def test_a_month_that_is_not_over_is_refused(billed: Site) -> None:
    month = f"{times.now() + timedelta(days=1):%Y-%m}"
    with pytest.raises(MeterhouseError, match=f"{month} is not over"):
        closing.close(billed, month, "ann", is_first=True)
    with pytest.raises(UsageError, match="not a month"):
        closing.close(billed, "2026-13", "ann")
    assert closing.closed(billed) == []


def test_months_are_closed_in_their_order(open_site: OpenSite, config: Path) -> None:
    site = open_site(config_dir=config)
    lives(site, "i1", day(1, 7))
    with pytest.raises(MeterhouseError, match=r"2026-07, an earlier month, is open.*--first"):
        closing.close(site, "2026-08", "ann")
    closing.close(site, "2026-08", "ann", is_first=True)
    with pytest.raises(MeterhouseError, match=r"2026-09, an earlier month, is open. Close 2026-09 first"):
        closing.close(site, "2026-10", "ann")
    with pytest.raises(MeterhouseError, match="2026-08, a later month, is closed"):
        closing.close(site, "2026-07", "ann")
    closing.close(site, "2026-09", "ann")
    assert [each.month for each in closing.closed(site)] == ["2026-08", "2026-09"]


def test_a_first_month_needs_no_permission_if_nothing_was_before(billed: Site) -> None:
    closing.close(billed, "2026-10", "ann")
    assert [each.month for each in closing.closed(billed)] == ["2026-10"]


def test_a_month_with_hours_that_are_not_rolled_up_is_refused(billed: Site) -> None:
    land_points(billed, [point(1, day(5), meter="volume.size", resource="v1")])
    catalog.catalog(billed)
    with pytest.raises(MeterhouseError, match="1 hour is not rolled up"):
        closing.close(billed, "2026-10", "ann")
    assert closing.closed(billed) == []
    done = closing.close(billed, "2026-10", "ann", is_forced=True)
    assert "1 hour is not rolled up yet: counters may still grow" in done.remarks


@pytest.mark.parametrize(("came", "is_complete"), [(day(20), False), (day(2, 11), True)])
def test_only_messages_that_came_in_a_month_have_to_be_in_its_periods(
    billed: Site, monkeypatch: pytest.MonkeyPatch, came: datetime, is_complete: bool
) -> None:
    monkeypatch.setattr(keeping_up, "behind", lambda site: keeping_up.Behind(1, came))
    assert (not_counted(billed, day(1), day(1, 11)) == []) == is_complete


def test_another_time_zone_between_two_months_is_refused(billed: Site, config: Path) -> None:
    closing.close(billed, "2026-09", "ann", is_first=True)
    (config / "prices.yaml").write_text(PRICES.replace("UTC", "Europe/Berlin"), encoding="utf-8")
    with pytest.raises(MeterhouseError, match="Set `time_zone` to that of 2026-09, UTC"):
        closing.close(billed, "2026-10", "ann")


def test_one_process_closes_at_a_time(billed: Site) -> None:
    with billed.warehouse.lease(closing.LEASE), pytest.raises(AlreadyRunning):
        closing.close(billed, "2026-10", "ann")


def test_what_is_not_complete_is_said_in_the_bill(billed: Site) -> None:
    lives(billed, "i2", day(5), unconfirmed=True)
    lives(billed, "v1", day(5), resource_type="volume", vcpus=None)
    found = closing.make(billed, "2026-10")
    assert found.unconfirmed["resource_id"].to_pylist() == ["i2"]
    assert set(found.not_priced["resource_id"].to_pylist()) == {"v1"}
    assert any("1 resource is known by events alone" in each for each in found.remarks)
    assert any("1 resource is not priced" in each for each in found.remarks)


def test_what_the_functional_suite_sends_is_never_billed(billed: Site) -> None:
    lives(billed, "suite", day(1), source="meterhouse-verify", unconfirmed=True)
    found = closing.close(billed, "2026-10", "ann")
    assert set(found.lines["resource_id"].to_pylist()) == {"i1", None}
    assert found.unconfirmed.num_rows == 0
    assert b"suite" not in (folder(billed, "2026-10") / "periods.parquet").read_bytes()


def test_a_closed_month_on_every_kind_of_site(any_site: Site, tmp_path: Path) -> None:
    (tmp_path / "prices.yaml").write_text(PRICES, encoding="utf-8")
    object.__setattr__(any_site.settings, "config_dir", tmp_path)
    lives(any_site, "i1", day(1))
    done = closing.close(any_site, "2026-10", "ann")
    assert closing.make(any_site, "2026-10") == done
    assert closing.again_in_lake(any_site, "2026-10").differences == ()
    lives(any_site, "late", day(31))
    assert amounts(any_site, "2026-11")["correction", "late"] == Decimal("0.96")


# -- the index ------------------------------------------------------------------------------------------------


def test_the_table_of_closed_bills_is_rebuilt_from_the_files(billed: Site) -> None:
    closing.close(billed, "2026-10", "ann")
    with billed.warehouse.begin() as connection:
        (row,) = connection.execute(select(closed_bills)).all()
        connection.execute(delete(closed_bills))
    assert (row.month, row.time_zone, row.closed_by) == ("2026-10", "UTC", "ann")
    assert json.loads(row.totals) == [{"currency": "EUR", "net": "29.76", "tax": "5.65"}]
    closing.index(billed, closing.closed(billed))
    with billed.warehouse.read() as connection:
        assert connection.execute(select(closed_bills)).all() == [row]


# -- damage ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["lines.parquet", "inputs.json", "bill.json"])
def test_a_changed_or_missing_file_of_a_closed_month_is_named(billed: Site, name: str) -> None:
    closing.close(billed, "2026-10", "ann")
    path = folder(billed, "2026-10") / name
    path.write_bytes(path.read_bytes() + b" ")
    with pytest.raises(Damaged, match=f"{name}: a file of the closed month 2026-10 is not the one"):
        closing.make(billed, "2026-10")
    path.unlink()
    with pytest.raises(Damaged, match=f"{name}: a file of a closed month is missing"):
        closing.make(billed, "2026-10")


def test_the_doctor_names_a_changed_file_of_a_closed_month(billed: Site) -> None:
    (found,) = findings_of(billed, "closed months")
    assert (found.state, found.found) == ("ok", "no month is closed")
    closing.close(billed, "2026-10", "ann")
    (found,) = findings_of(billed, "closed months")
    assert (found.state, found.found) == ("ok", "1 month is closed, the last is 2026-10; all files are whole")
    path = folder(billed, "2026-10") / "periods.parquet"
    path.write_bytes(path.read_bytes()[:-1])
    (found,) = findings_of(billed, "closed months")
    assert found.state == "failed"
    assert "bills/2026-10/periods.parquet" in found.found
    (folder(billed, "2026-10") / "manifest.json").write_text("{}")
    (found,) = findings_of(billed, "closed months")
    assert (found.state, "manifest" in found.found) == ("failed", True)


def test_changed_prices_are_not_taken_for_the_frozen_ones(billed: Site) -> None:
    closing.close(billed, "2026-10", "ann")
    path = folder(billed, "2026-10") / "prices.yaml"
    path.write_text(path.read_text().replace("0.01", "0.02"))
    with pytest.raises(Damaged, match=r"prices\.yaml"):
        closing.again_in_lake(billed, "2026-10")


@pytest.mark.parametrize(
    "change",
    [
        lambda found: found.pop("files"),
        lambda found: found.update(digest="0" * 64),
        lambda found: found.update(format=99),
    ],
    ids=["no files", "other digest", "later form"],
)
def test_a_broken_manifest_is_an_error_and_not_an_open_month(
    billed: Site, change: Callable[[dict[str, Any]], Any]
) -> None:
    closing.close(billed, "2026-10", "ann")
    path = folder(billed, "2026-10") / "manifest.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(MeterhouseError, match=r"manifest\.json"):
        closing.make(billed, "2026-10")


def test_a_bill_that_comes_out_otherwise_is_told_by_line(billed: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    closing.close(billed, "2026-10", "ann")
    from meterhouse.billing import inputs

    real = inputs.rate

    def dearer(*given: Any) -> Any:
        from dataclasses import replace

        found = real(*given)
        rows = found.lines.to_pylist()
        rows[0]["amount"] += 1
        return replace(found, lines=found.lines.from_pylist(rows, schema=found.lines.schema))

    monkeypatch.setattr(inputs, "rate", dearer)
    (told,) = closing.again_in_lake(billed, "2026-10").differences
    assert "29.76 EUR when it was closed, 30.76 EUR now" in told


def test_a_closed_month_whose_files_are_gone_is_not_taken_for_an_open_one(billed: Site) -> None:
    closing.close(billed, "2026-10", "ann")
    shutil.move(folder(billed, "2026-10"), billed.settings.home_path / "lost")
    for month in ("2026-10", "2026-11"):
        with pytest.raises(Damaged, match=r"2026-10 was closed, but its files are gone. Restore the folder"):
            closing.make(billed, month)
    with pytest.raises(Damaged, match="2026-10 was closed"):
        closing.close(billed, "2026-10", "ann")
    assert closing.make(billed, "2026-09").closing is None
    (found,) = findings_of(billed, "closed months")
    assert (found.state, found.to_do) == ("failed", "restore the folder")
    shutil.move(billed.settings.home_path / "lost", folder(billed, "2026-10"))
    assert closing.make(billed, "2026-10").closing is not None


def test_a_closed_month_has_its_usage_and_the_corrections_of_points(billed: Site) -> None:
    from builders import land_points, point, roll_up

    from meterhouse.corrections import changing

    land_points(billed, [point(float(n), day(5) + timedelta(hours=n), meter="cpu") for n in range(3)])
    roll_up(billed)
    proposed = changing.propose(billed, "delete", "cpu", day(5), day(6)).correction
    changing.record(billed, proposed, reason="a broken clock", author="ann")
    roll_up(billed)
    closing.close(billed, "2026-10", "ann")
    (row,) = pq.read_table(folder(billed, "2026-10") / "usage.parquet").to_pylist()
    assert (row["project_id"], row["flavor"], row["resources"]) == ("p1", "m1.large", 1)
    assert (row["seconds"], row["vcpus_seconds"]) == (31 * 86400, 4 * 31 * 86400)
    inputs = json.loads((folder(billed, "2026-10") / "inputs.json").read_text())
    assert [each["reason"] for each in inputs["point_corrections"]] == ["a broken clock"]


# -- corrections ----------------------------------------------------------------------------------------------


def test_what_came_late_is_a_correction_in_the_next_bill(billed: Site) -> None:
    before = amounts(billed, "2026-11")
    closing.close(billed, "2026-10", "ann")
    assert amounts(billed, "2026-11") == before
    lives(billed, "late", day(31), day(1, 11))
    found = closing.make(billed, "2026-11")
    late = [row for row in found.lines.to_pylist() if row["corrects"]]
    assert [(row["kind"], row["resource_id"], row["amount"]) for row in late] == [
        ("correction", "late", Decimal("0.96")),
        ("tax", None, Decimal("0.19")),  # 30.72 and 29.76 times 19 %, each rounded
    ]
    (correction,) = (row for row in late if row["kind"] == "correction")
    assert (correction["corrects"], correction["month"]) == ("2026-10", "2026-11")
    assert (correction["quantity"], correction["unit_price"]) == (Decimal(96), Decimal("0.01"))
    assert (correction["started_at"], correction["ended_at"]) == (day(31), day(1, 11))
    assert [each["start_evidence"] for each in correction["evidence"]] == ["created-late"]


def test_what_was_billed_too_much_is_credited(billed: Site) -> None:
    closing.close(billed, "2026-10", "ann")
    with billed.warehouse.begin() as connection:
        connection.execute(update(resource_periods).values(ended_at=day(31), end_evidence="deleted-i1"))
    assert amounts(billed, "2026-11") == {("correction", "i1"): Decimal("-0.96"), ("tax", None): Decimal("-0.18")}
    with billed.warehouse.begin() as connection:
        connection.execute(delete(resource_periods))
    assert amounts(billed, "2026-11") == {("correction", "i1"): Decimal("-29.76"), ("tax", None): Decimal("-5.65")}


def test_a_correction_is_billed_once(billed: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(times, "now", lambda: day(2, 12))
    lives(billed, "gone", day(1), day(2))
    closing.close(billed, "2026-10", "ann")
    lives(billed, "late", day(31), day(1, 11))
    assert _corrected(billed, "2026-11") == {("2026-10", "late"), ("2026-10", None)}
    closing.close(billed, "2026-11", "ann")
    assert _corrected(billed, "2026-12") == set()
    lives(billed, "later", day(31), day(1, 11), project_id="p2")
    assert _corrected(billed, "2026-12") == {("2026-10", "later"), ("2026-10", None)}


def _corrected(site: Site, month: str) -> set[tuple[str, str | None]]:
    """Which months and resources a bill corrects."""
    rows = closing.make(site, month).lines.to_pylist()
    return {(row["corrects"], row["resource_id"]) for row in rows if row["corrects"]}


def test_only_the_first_open_month_has_corrections(billed: Site) -> None:
    closing.close(billed, "2026-10", "ann")
    lives(billed, "late", day(31), day(1, 11))
    assert _corrected(billed, "2026-11")
    assert not _corrected(billed, "2026-12")
    assert any(
        "corrections of closed months are in the bill of 2026-11" in n for n in closing.make(billed, "2026-12").notes
    )


def test_other_prices_correct_nothing(billed: Site, config: Path) -> None:
    closing.close(billed, "2026-10", "ann")
    (config / "prices.yaml").write_text(PRICES.replace("0.01", "5"), encoding="utf-8")
    assert not _corrected(billed, "2026-11")


def test_a_resource_that_moved_to_another_project_is_credited_and_billed(billed: Site) -> None:
    closing.close(billed, "2026-10", "ann")
    with billed.warehouse.begin() as connection:
        connection.execute(update(resource_periods).values(project_id="p2"))
    rows = [row for row in closing.make(billed, "2026-11").lines.to_pylist() if row["kind"] == "correction"]
    assert {(row["project_id"], row["amount"]) for row in rows} == {
        ("p1", Decimal("-29.76")),
        ("p2", Decimal("29.76")),
    }


# -- commands -------------------------------------------------------------------------------------------------


def test_the_commands_show_close_list_and_make_again(
    run: Any, billed: Site, monkeypatch: pytest.MonkeyPatch, config: Path
) -> None:
    monkeypatch.setenv("METERHOUSE_HOME", str(billed.settings.home_path))
    monkeypatch.setenv("METERHOUSE_CONFIG_DIR", str(config))
    shown = run("bill", "--month", "2026-10")
    assert shown.exit_code == 0, shown.output
    assert "29.76 EUR" in shown.stdout
    assert "35.41" in shown.stdout
    assert "preliminary" in shown.stderr
    short = run("bill", "--month", "2026-10", "--limit", "1")
    assert "VAT" not in short.stdout
    assert "35.41" in short.stdout
    assert "not shown: 1 of 2 lines" in short.stderr
    line = json.loads(run("bill", "--month", "2026-10", "--json").stdout.splitlines()[0])
    explained = run("bill", "--month", "2026-10", "--explain", line["line_id"]).stdout
    assert "created-i1" in explained
    assert "2678400" in explained
    closed = run("bill", "close", "--month", "2026-10", "--by", "ann", "--json")
    assert closed.exit_code == 0, closed.output
    assert json.loads(closed.stdout)["total"] == "35.41"
    assert json.loads(run("bill", "list", "--json").stdout)["closed_by"] == "ann"
    again = run("bill", "again", "--month", "2026-10", "--json")
    assert json.loads(again.stdout) == {
        "month": "2026-10",
        "lines": 2,
        "same": True,
        "total": "35.41",
        "currency": "EUR",
    }
    assert run("bill", "close", "--month", "2026-10").exit_code == 1


@pytest.mark.parametrize(
    ("name", "start"), [("b.html", b"<!DOCTYPE"), ("b.csv", b"line_id"), ("b.json", b"{"), ("b.parquet", b"PAR1")]
)
def test_a_bill_is_written_in_the_format_of_the_files_ending(
    run: Any, billed: Site, monkeypatch: pytest.MonkeyPatch, config: Path, tmp_path: Path, name: str, start: bytes
) -> None:
    monkeypatch.setenv("METERHOUSE_HOME", str(billed.settings.home_path))
    monkeypatch.setenv("METERHOUSE_CONFIG_DIR", str(config))
    done = run("bill", "--month", "2026-10", "--project", "p1", "--output", tmp_path / name)
    assert done.exit_code == 0, done.output
    assert (tmp_path / name).read_bytes().startswith(start)


# -- names ----------------------------------------------------------------------------------------------------


def test_a_bill_names_projects_as_they_were_called_at_the_end_of_its_month(billed: Site, config: Path) -> None:
    (config / "names.csv").write_text(
        "kind,id,name,valid_from\nproject,p1,Old,\nproject,p1,New,2026-11-01\nproject,other,Other,\n", encoding="utf-8"
    )
    assert closing.make(billed, "2026-10").projects == {"p1": "Old"}
    assert closing.make(billed, "2026-11").projects == {"p1": "New"}
    closing.close(billed, "2026-10", "ann")
    (config / "names.csv").write_text("kind,id,name\nproject,p1,Newest\n", encoding="utf-8")
    assert closing.make(billed, "2026-10").projects == {"p1": "Old"}  # frozen with the month
    assert closing.make(billed, "2026-11").projects == {"p1": "Newest"}
