"""Publishes notifications as OpenStack's own services do, by oslo.messaging's Notifier; `brokers.notify` runs it.

Arguments: oslo's configuration file. Standard input: JSON, a list of objects with `priority`, `publisher_id`,
`event_type` and `payload`. Ends with an error where oslo.messaging logs one: it raises none when it gives up.
"""

import json
import logging
import sys

import oslo_messaging
from oslo_config import cfg


class Errors(logging.Handler):
    """Keeps what is logged as an error."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())


def main(config_file: str) -> None:
    errors = Errors()
    logging.getLogger("oslo_messaging").addHandler(errors)
    conf = cfg.ConfigOpts()
    conf(["--config-file", config_file])
    transport = oslo_messaging.get_notification_transport(conf)
    notifier = oslo_messaging.Notifier(transport)
    for message in json.load(sys.stdin):
        publish = getattr(notifier.prepare(publisher_id=message["publisher_id"]), message["priority"])
        publish({}, message["event_type"], message["payload"])
    transport.cleanup()
    if errors.texts:
        sys.exit("\n".join(errors.texts))


if __name__ == "__main__":
    main(sys.argv[1])
