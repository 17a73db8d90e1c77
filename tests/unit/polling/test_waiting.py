"""What an orchestrator sees as due: only what no member has taken, and only what this host may poll."""

import socket
from datetime import timedelta
from pathlib import Path

from conftest import OpenSite
from poll_rows import schedule, task

from meterhouse import times
from meterhouse.polling.waiting import waiting

SECOND = timedelta(seconds=1)
PATIENCE = 2 * SECOND


def test_what_is_due_is_what_no_member_has_taken(tmp_path: Path, open_site: OpenSite) -> None:
    site = open_site(config_dir=tmp_path)
    now = times.now()
    assert waiting(site, PATIENCE) == 0
    schedule(site, "later", next_slot_at=now + 60 * SECOND)
    schedule(site, "just.now", next_slot_at=now - SECOND)
    schedule(site, "no.longer.polled", next_slot_at=now - 9 * SECOND, active=False)
    schedule(site, "of.another.host", next_slot_at=now - 9 * SECOND, host="c1")
    task(site, "claimed", state="claimed", lease_until=now + 5 * SECOND)
    task(site, "done", state="done")
    assert waiting(site, PATIENCE) == 0
    schedule(site, "begun", next_slot_at=now - 9 * SECOND, shards=4)
    assert waiting(site, PATIENCE) == 4
    task(site, "open", due_at=now - 5 * SECOND)
    task(site, "of.a.dead.member", state="claimed", lease_until=now - 20 * SECOND)
    assert waiting(site, PATIENCE) == 6


def test_a_process_counts_what_tells_of_its_own_host_if_it_polls_that(tmp_path: Path, open_site: OpenSite) -> None:
    site = open_site(config_dir=tmp_path, poll_namespaces="compute")
    now = times.now()
    schedule(site, "of.any.member", next_slot_at=now - 9 * SECOND)
    schedule(site, "of.another.host", next_slot_at=now - 9 * SECOND, host="c1")
    assert waiting(site, PATIENCE) == 0
    schedule(site, "of.this.host", next_slot_at=now - 9 * SECOND, host=socket.gethostname())
    assert waiting(site, PATIENCE) == 1


def test_a_polling_yaml_that_no_member_has_read_is_due(tmp_path: Path, open_site: OpenSite) -> None:
    site = open_site(config_dir=tmp_path)
    (tmp_path / "polling.yaml").write_text("sources: []")
    assert waiting(site, PATIENCE) == 1
    schedule(site, "later", next_slot_at=times.now() + 60 * SECOND)
    assert waiting(site, PATIENCE) == 0
