"""How many notifications a second reach a good receiver on this machine: `python bench/delivery.py`.

The receiver is a process of its own that reads each call and answers 200. `--warehouse URL` measures a PostgreSQL
warehouse, which must be empty; default is SQLite in a temporary folder. `--digest N` tells N or more together.
"""

import argparse
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

from meterhouse import times
from meterhouse.alarms.delivery.deliver import deliver
from meterhouse.alarms.delivery.outbox import Notification, enqueue
from meterhouse.settings import read_settings
from meterhouse.site import Site

RECEIVER = """
import asyncio


class Call(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport, self.come = transport, b""

    def data_received(self, data):
        self.come += data
        head, end, body = self.come.partition(b"\\r\\n\\r\\n")
        if end and len(body) >= int(head.lower().partition(b"content-length: ")[2].split(b"\\r\\n")[0]):
            self.transport.write(b"HTTP/1.1 200 OK\\r\\ncontent-length: 0\\r\\n\\r\\n")
            self.transport.close()


async def serve():
    server = await asyncio.get_running_loop().create_server(Call, "127.0.0.1", 0, backlog=1000)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


asyncio.run(serve())
"""


def notification(number: int, port: str) -> Notification:
    """The transition of an alarm."""
    return Notification(
        event_id=str(uuid.uuid4()),
        alarm_id=str(uuid.uuid4()),
        alarm_name=f"alarm {number}",
        severity="low",
        origin="file",
        previous="ok",
        current="alarm",
        reason="Transition to alarm due to 5 samples outside threshold, most recent: 97.0",
        reason_data={"type": "threshold", "disposition": "outside", "count": 5, "most_recent": 97.0},
        urls=(f"http://127.0.0.1:{port}/alarm",),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--notifications", type=int, default=10_000)
    parser.add_argument("--warehouse", default="")
    parser.add_argument("--digest", type=int, default=0)
    given = parser.parse_args()
    receiver = subprocess.Popen([sys.executable, "-c", RECEIVER], stdout=subprocess.PIPE, text=True)
    try:
        assert receiver.stdout is not None
        port = receiver.stdout.readline().strip()
        with tempfile.TemporaryDirectory() as home:
            site = Site.open(read_settings(home=Path(home), warehouse_url=given.warehouse, webhook_digest=given.digest))
            told = [notification(number, port) for number in range(given.notifications)]
            began = time.perf_counter()
            with site.warehouse.begin() as connection:
                enqueue(connection, told, times.now())
            print(f"outbox: {given.notifications:,} notifications in {time.perf_counter() - began:.2f} s")
            began, cpu, delivered = time.perf_counter(), time.process_time(), 0
            while True:
                done = deliver(site)
                delivered += done.delivered
                if not done.delivered or not done.pending:
                    break
            took = time.perf_counter() - began
            print(
                f"delivery: {delivered:,} in {took:.2f} s ({delivered / took:,.0f}/s), "
                f"{time.process_time() - cpu:.2f} s of CPU; {done.pending:,} wait"
            )
            site.warehouse.engine.dispose()
    finally:
        receiver.kill()
        receiver.wait()


if __name__ == "__main__":
    main()
