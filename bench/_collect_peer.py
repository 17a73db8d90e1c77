"""Runs inside Ceilometer's own virtual environment: its notification agent drains queues, and says how long it took.

    python _collect_peer.py '{"url": …, "topic": …, "quorum": false, "count": 4000}'

This is Ceilometer's own `NotificationService` with oslo.messaging's RabbitMQ driver, its defaults (one worker, batches
of 1, 64 threads, 100 messages prefetched) and its packaged definitions. Only its publishers are others: `test://`,
which keeps samples and events in memory, for those of its packaged pipelines need Gnocchi and a bus.

The clock runs from the start of the listener, after imports and definitions, until the last message is acknowledged.
On stdout: `samples`, `events`, `requeued`, `seconds` and `cpu_seconds`, as JSON.
"""

import functools
import json
import os
import sys
import tempfile
import threading
import time

from ceilometer import notification, service
from oslo_messaging._drivers import amqpdriver
from oslo_messaging.notify import listener

PIPELINE = """
sources: [{{name: all, {what}: ["*"], sinks: [memory]}}]
sinks: [{{name: memory, publishers: ["test://"]}}]
"""
CONFIGURATION = """
[DEFAULT]
transport_url = {url}
pipeline_cfg_file = {folder}/pipeline.yaml
event_pipeline_cfg_file = {folder}/event_pipeline.yaml
[notification]
notification_control_exchanges = {topic}
[oslo_messaging_notifications]
topics = {topic}
[oslo_messaging_rabbit]
amqp_durable_queues = true
rabbit_quorum_queue = {quorum}
"""


class Watch:
    """Counts what oslo.messaging acknowledges and requeues, and stops the clock at the last message."""

    def __init__(self, count):
        self.count = count
        self.acknowledged = self.requeued = 0
        self.finished = threading.Event()
        self._lock = threading.Lock()
        message, server = amqpdriver.NotificationAMQPIncomingMessage, listener.BatchNotificationServer
        acknowledge, requeue, start = message.acknowledge, message.requeue, server.start

        def counted_acknowledge(incoming):
            acknowledge(incoming)
            self._count(acknowledged=1)

        def counted_requeue(incoming):
            requeue(incoming)
            self._count(requeued=1)

        @functools.wraps(start)  # with the mark by which oslo.messaging knows it
        def timed_start(*arguments, **options):
            self.wall, self.processor = time.perf_counter(), time.process_time()
            return start(*arguments, **options)

        message.acknowledge, message.requeue, server.start = counted_acknowledge, counted_requeue, timed_start

    def _count(self, acknowledged=0, requeued=0):
        with self._lock:
            self.acknowledged += acknowledged
            self.requeued += requeued
            if not self.finished.is_set() and (self.acknowledged >= self.count or self.requeued):
                self.wall, self.processor = time.perf_counter() - self.wall, time.process_time() - self.processor
                self.finished.set()


def made(agent):
    """The samples and the events that the publishers were given."""
    publishers = [
        publisher for manager in agent.managers for pipeline in manager.pipelines for publisher in pipeline.publishers
    ]
    return sum(len(each.samples) for each in publishers), sum(len(each.events) for each in publishers)


def main():
    answers, sys.stdout = sys.stdout, sys.stderr  # what a library prints must not come between the answers
    job = json.loads(sys.argv[1])
    watch = Watch(job["count"])
    with tempfile.TemporaryDirectory() as folder:
        files = {
            "pipeline.yaml": PIPELINE.format(what="meters"),
            "event_pipeline.yaml": PIPELINE.format(what="events"),
            "ceilometer.conf": CONFIGURATION.format(
                url=job["url"].replace("amqp", "rabbit", 1).replace("$", "$$"),
                folder=folder,
                topic=job["topic"],
                quorum=job["quorum"],
            ),
        }
        for name, text in files.items():
            with open(os.path.join(folder, name), "w") as file:
                file.write(text)
        agent = notification.NotificationService(0, service.prepare_service([], [file.name]))
        agent.run()
        watch.finished.wait()
        agent.terminate()
    samples, events = made(agent)
    answer = {"samples": samples, "events": events, "requeued": watch.requeued}
    print(json.dumps({**answer, "seconds": watch.wall, "cpu_seconds": watch.processor}), file=answers, flush=True)


if __name__ == "__main__":
    main()
