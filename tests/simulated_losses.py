"""What goes wrong between the services of a simulated cloud and the lake: losses, repeats, delays.

A delivery is a message and when it arrives, in microseconds of true time.
"""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import pyarrow as pa
from simulated_messages import DAY, HOUR, SECOND, Message, moment

from meterhouse.site import Site
from meterhouse.stores.lake_tables import NOTIFICATIONS
from meterhouse.stream.envelope import unwrap

Delivery = tuple[int, Message]


@dataclass(frozen=True)
class Losses:
    """What goes wrong. The shares are of events; a day and a window are [from, to) in microseconds.

    Args:
        lost: the share that never arrives.
        twice: the share that arrives again, up to an hour later.
        late: the share that arrives up to two days later than it was sent.
        audits_off: service → when its audits were not sent.
        polls_missing: when no poll arrived.
    """

    lost: float = 0.0
    twice: float = 0.0
    late: float = 0.0
    audits_off: tuple[str, int, int] | None = None
    polls_missing: tuple[int, int] | None = None


def of_the_issue(start: int) -> Losses:
    """1 % lost, 5 % twice, 10 % late; Cinder's audits off for a day, polls missing for six hours."""
    off = start + 12 * DAY
    return Losses(
        0.01, 0.05, 0.10, ("cinder", off, off + DAY), (start + 20 * DAY + 3 * HOUR, start + 20 * DAY + 9 * HOUR)
    )


def delivered(messages: Iterable[Message], losses: Losses = Losses(), seed: int = 1) -> list[Delivery]:
    """Deliver messages, in the order of arrival."""
    rng = random.Random(f"losses/{seed}")
    found: list[Delivery] = []
    for message in messages:
        if message.kind == "event":
            if rng.random() < losses.lost:
                continue
            arrival = message.at + SECOND // 2
            if rng.random() < losses.late:
                arrival += rng.randrange(2 * DAY)
            found.append((arrival, message))
            if rng.random() < losses.twice:
                found.append((arrival + rng.randrange(HOUR), message))
        elif message.kind == "audit" and losses.audits_off:
            service, begun, ended = losses.audits_off
            if not (message.service == service and begun <= message.at < ended):
                found.append((message.at + SECOND // 2, message))
        elif message.kind == "poll" and losses.polls_missing:
            begun, ended = losses.polls_missing
            if not begun <= message.at < ended:
                found.append((message.at + SECOND // 2, message))
        else:
            found.append((message.at + SECOND // 2, message))
    found.sort(key=lambda delivery: delivery[0])
    return found


def in_pieces(deliveries: Sequence[Delivery], bounds: Sequence[int]) -> list[list[Delivery]]:
    """Cut deliveries at these moments of arrival."""
    pieces: list[list[Delivery]] = [[] for _ in range(len(bounds) + 1)]
    for delivery in deliveries:
        pieces[sum(delivery[0] >= bound for bound in bounds)].append(delivery)
    return pieces


def land(site: Site, deliveries: Iterable[Delivery]) -> int:
    """Write deliveries into the lake's `notifications`, as collection does, but at their times of arrival.

    All of a day is in the partition of its first hour, which makes fewer files. Of repeats, the first lands.

    Returns:
        How many landed.
    """
    first: dict[str, Delivery] = {}
    for delivery in deliveries:
        first.setdefault(delivery[1].message_id, delivery)
    ours = list(first.values())
    headers = [unwrap(message.line) for _, message in ours]
    arrivals = [arrival for arrival, _ in ours]
    table = pa.table(
        {
            "arrival_hour": [f"{moment(arrival):%Y-%m-%dT00}" for arrival in arrivals],
            "message_id": [header.message_id for header in headers],
            "event_type": [header.event_type for header in headers],
            "publisher_id": [header.publisher_id for header in headers],
            "priority": [header.priority for header in headers],
            "timestamp": pa.array([header.timestamp for header in headers], NOTIFICATIONS.field("timestamp").type),
            "received_at": pa.array(arrivals, NOTIFICATIONS.field("received_at").type),
            "source": ["simulated"] * len(ours),
            "body": [header.body for header in headers],
        },
        schema=NOTIFICATIONS,
    )
    if len(table):
        site.lake.append("notifications", table)
    return len(table)
