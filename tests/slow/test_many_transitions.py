"""Ten thousand transitions within a minute: each is in the history once, and arrives, in order by alarm."""

import time
from collections import defaultdict
from pathlib import Path

import pytest
from builders import at, land_points, point, warehouse_rows
from conftest import OpenSite

from meterhouse.alarms.delivery.deliver import deliver
from meterhouse.alarms.evaluation.evaluate import evaluate
from meterhouse.demo.receiver import WebhookReceiver
from meterhouse.site import Site

pytestmark = pytest.mark.slow

ALARMS = 5_000
ENTRY = """\
- name: a{n}
  threshold_rule:
    {{meter_name: cpu_util, comparison_operator: gt, threshold: 50, query: [{{field: resource_id, value: r{n}}}]}}
  alarm_actions: [{url}]
  ok_actions: [{url}]
"""


def test_ten_thousand_transitions_in_a_minute_all_arrive_in_order(
    any_warehouse: Site, open_site: OpenSite, tmp_path: Path
) -> None:
    settings = any_warehouse.settings
    site = open_site(home=settings.home_path, warehouse_url=settings.warehouse, config_dir=tmp_path)
    for minute, value in ((-1, 90.0), (0, 10.0)):
        moment = at(minute + 0.5)
        land_points(site, [point(value, moment, meter="cpu_util", resource=f"r{n}") for n in range(ALARMS)])
    with WebhookReceiver() as receiver:
        entries = "".join(ENTRY.format(n=n, url=receiver.url) for n in range(ALARMS))
        (tmp_path / "alarms.yaml").write_text(f"alarms:\n{entries}")
        for minute in (0, 1):
            assert len(evaluate(site, at(minute)).transitions) == ALARMS
        deadline = time.monotonic() + 300
        while deliver(site, limit=5_000).pending:
            assert time.monotonic() < deadline
        told: dict[str, list[str]] = defaultdict(list)
        for call in receiver.calls:
            told[call.body["alarm_name"]].append(call.body["current"])
    assert dict(told) == {f"a{n}": ["alarm", "ok"] for n in range(ALARMS)}
    kept = warehouse_rows(
        site, "SELECT alarm_id, count(*) FROM alarm_history WHERE type = 'state transition' GROUP BY 1"
    )
    assert sorted(count for _, count in kept) == [2] * ALARMS
    assert warehouse_rows(site, "SELECT state, count(*) FROM deliveries GROUP BY state") == [("delivered", 2 * ALARMS)]
    assert warehouse_rows(site, "SELECT count(DISTINCT event_id) FROM deliveries") == [(2 * ALARMS,)]
