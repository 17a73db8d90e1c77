"""The doctor asks for audits of services that send notifications but do not report what exists."""

from datetime import timedelta

import pytest
from builders import at, drop, notification, polled, polling, roll_up

from meterhouse import times
from meterhouse.catalog import catalog
from meterhouse.collection.collect import collect
from meterhouse.conversion.step import convert
from meterhouse.doctor import findings_of
from meterhouse.site import Site


def arrive(site: Site, monkeypatch: pytest.MonkeyPatch, hours_ago: float, *event_types: str) -> None:
    """Notifications of these types that came some hours ago; the clock is as before afterwards."""
    clock = times.now
    sample = polled(1.0, clock() - timedelta(hours=hours_ago), meter="cpu")
    messages = [
        polling(f"{name}-{hours_ago}", [sample]) if "polling" in name else notification(f"{name}-{hours_ago}", name)
        for name in event_types
    ]
    with monkeypatch.context() as patch:
        patch.setattr(times, "now", lambda: clock() - timedelta(hours=hours_ago))
        drop(site.settings.spool, "a.jsonl", messages)
        collect(site)
        convert(site)
        catalog(site)
        roll_up(site)


def found(site: Site) -> list[tuple[str, str]]:
    return [(finding.state, str(finding)) for finding in findings_of(site, "audits")]


@pytest.mark.parametrize("event_type", ["compute.instance.create.end", "instance.create.end", "telemetry.polling"])
def test_instances_without_audits_are_a_warning_with_novas_options(
    site: Site, monkeypatch: pytest.MonkeyPatch, event_type: str
) -> None:
    assert found(site) == [("ok", "nothing came that needs audits")]
    arrive(site, monkeypatch, 5, "compute.instance.exists")  # too long ago
    arrive(site, monkeypatch, 1, event_type)
    assert found(site) == [("ok", "audits come")]  # the first may be on its way
    arrive(site, monkeypatch, 2, event_type)
    ((state, said),) = found(site)
    assert state == "warning"
    assert "no audit of the instances that exist came in the last 3 h" in said
    assert "instance_usage_audit = True" in said
    assert "instance_usage_audit_period = hour" in said
    arrive(
        site, monkeypatch, 0.5, "instance.exists" if event_type.startswith("instance") else "compute.instance.exists"
    )
    assert found(site) == [("ok", "audits come")]


def test_volumes_without_audits_are_a_warning_with_cinders_command(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    arrive(site, monkeypatch, 2, "volume.create.end", "compute.instance.exists")
    ((state, said),) = found(site)
    assert state == "warning"
    assert "no audit of the volumes that exist" in said
    assert "cinder-volume-usage-audit" in said
    arrive(site, monkeypatch, 0.1, "volume.exists")
    assert found(site) == [("ok", "audits come")]


def test_loaded_samples_of_a_meter_of_instances_need_no_audits(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    arrive(site, monkeypatch, 2, "image.upload")
    assert at() < times.now()
    assert found(site) == [("ok", "nothing came that needs audits")]
