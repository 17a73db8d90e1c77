"""From the broker to a webhook: an event that comes to `meterhouse collect --follow` is told at once."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from brokers import declare as declare_queue
from brokers import publish
from builders import enveloped, line, notification
from conftest import OpenSite
from event_steps import alarm, declare

from meterhouse.demo.receiver import WebhookReceiver
from meterhouse.settings import as_environment

pytestmark = [pytest.mark.slow, pytest.mark.service]


def test_an_event_from_a_broker_is_told_while_collection_follows(
    open_site: OpenSite, tmp_path: Path, amqp_url: str, names: Callable[[str], str]
) -> None:
    queue = names("events")
    declare_queue(amqp_url, "", queue, "")
    site = open_site(home=tmp_path, config_dir=tmp_path, stream_url=amqp_url, stream_queues=queue)
    with WebhookReceiver() as receiver:
        declare(site, alarm(repeat_actions=True, alarm_actions=[receiver.url]))
        program = str(Path(sys.executable).with_name("meterhouse"))
        environment = {name: value for name, value in os.environ.items() if not name.startswith("METERHOUSE_")}
        environment |= as_environment(site.settings)
        child = subprocess.Popen([program, "collect", "--follow"], env=environment)
        try:
            for number in range(3):
                publish(amqp_url, "", queue, [line(enveloped(notification(f"m{number}", "compute.a")))])
                end = time.monotonic() + 60
                while len(receiver.calls) <= number:
                    assert time.monotonic() < end
                    assert child.poll() is None
                    time.sleep(0.05)
        finally:
            child.send_signal(signal.SIGTERM)
            child.wait(60)
        told = [call.body["reason_data"]["event"]["message_id"] for call in receiver.calls]
    assert told == ["m0", "m1", "m2"]
