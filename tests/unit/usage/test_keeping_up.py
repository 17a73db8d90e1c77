"""How far the periods are behind, and which resources only events have told of."""

from datetime import timedelta
from typing import Any

import pytest
from builders import at
from usage_messages import audit, created, land

from meterhouse import times
from meterhouse.doctor import findings_of
from meterhouse.site import Site
from meterhouse.usage.keeping_up import behind, unconfirmed
from meterhouse.usage.periods import compute


def test_a_site_without_notifications_is_not_behind(site: Site) -> None:
    compute(site)
    assert behind(site).commits == 0


def test_what_is_landed_waits_until_the_periods_are_computed(site: Site) -> None:
    land(site, created("i1"))
    assert (found := behind(site)).commits == 1
    assert found.since is not None
    assert times.now() - found.since < timedelta(minutes=1)
    compute(site)
    assert behind(site).commits == 0


def test_evidence_that_a_killed_run_has_read_waits(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    land(site, created("i1"))

    def killed(*args: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("meterhouse.usage.periods._replace", killed)
        with pytest.raises(KeyboardInterrupt):
            compute(site)
    assert site.lake.version("notifications") == site.lake.transaction("evidence", "notifications")
    assert behind(site).commits == 1
    assert compute(site).changed == 1
    assert behind(site).commits == 0


def test_a_run_names_the_days_of_what_was_new(site: Site) -> None:
    land(site, created("i1", at(days=-3)), created("i2", at(days=-2)))
    assert compute(site).days == ["2026-11-07", "2026-11-08"]
    land(site, created("i4", at(days=1)))
    assert compute(site).days == ["2026-11-11"]
    assert compute(site).days == []


def test_the_doctor_warns_of_periods_that_are_an_hour_behind(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    land(site, created("i1"))
    (found,) = findings_of(site, "periods")
    assert (found.state, found.found.startswith("1 commit is not in the periods")) == ("ok", True)
    later = times.now() + timedelta(hours=2)
    monkeypatch.setattr(times, "now", lambda: later)
    (found,) = findings_of(site, "periods")
    assert (found.state, "run `meterhouse rollup`" in found.to_do) == ("warning", True)


def test_a_resource_is_unconfirmed_until_an_audit_reports_it(site: Site) -> None:
    land(site, created("i1"), created("i2"))
    compute(site)
    assert unconfirmed(site) == 2
    land(site, audit("i1"))
    compute(site)
    assert unconfirmed(site) == 1


def test_the_doctor_doubts_a_resource_that_no_audit_reports_if_audits_report_others(site: Site) -> None:
    land(site, created("i1"), created("lost\x1b[2J"))
    compute(site)
    (found,) = findings_of(site, "unconfirmed resources")
    assert (found.state, found.found.startswith("2 resources are known by events alone")) == ("ok", True)
    land(site, audit("i1"))
    compute(site)
    (found,) = findings_of(site, "unconfirmed resources")
    assert found.state == "warning"
    assert found.found.startswith(
        "1 of type instance exist by events alone for more than 2 days, the first is lost\\x1b"
    )


def test_the_doctor_gives_audits_two_days_to_report_a_new_resource(site: Site) -> None:
    now = times.now()
    land(site, created("i1", now - timedelta(days=3)), created("i2", now - timedelta(days=1)))
    land(site, audit("i1", now - timedelta(hours=2)))
    compute(site)
    (found,) = findings_of(site, "unconfirmed resources")
    assert found.state == "ok"
