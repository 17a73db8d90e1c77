"""Publish lines of files to an exchange of RabbitMQ, as a service of the cloud does: publish.py EXCHANGE [FILE]..."""

import os
import sys
from pathlib import Path

import kombu

exchange, *files = sys.argv[1:]
confirmed = {"confirm_publish": True}
with kombu.Connection(os.environ["METERHOUSE_STREAM_URL"], transport_options=confirmed) as connection:
    service = kombu.Exchange(exchange, "topic", durable=False, channel=connection)
    service.declare()
    producer = connection.Producer(exchange=service, routing_key="notifications.info")
    for file in files:
        for line in Path(file).read_bytes().splitlines():
            producer.publish(line, content_type="application/json", content_encoding="utf-8")
