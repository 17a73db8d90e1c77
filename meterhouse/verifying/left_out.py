"""A check that nobody sees what the suite has sent, unless it is named."""

from collections.abc import Callable
from datetime import datetime
from typing import Any

from meterhouse.verifying.asking import Api, q
from meterhouse.verifying.findings import Failed
from meterhouse.verifying.sent import POLLED_METER, Sent


def left_out(api: Api, sent: Sent) -> str:
    """Whether lists that do not name the source leave out what was sent."""
    mine = q(("resource_id", "eq", sent.place))
    since = q(("start_timestamp", "eq", _plain(sent.points[0][0])))
    lists: dict[str, tuple[str, Any, Callable[[Any], bool]]] = {
        "meters": ("/v2/meters", mine, bool),
        "resources": ("/v2/resources", mine, bool),
        "samples": ("/v2/samples", mine, bool),
        "statistics": (f"/v2/meters/{POLLED_METER}/statistics", mine, bool),
        "events": ("/v2/events", since, lambda found: any(each["message_id"] == sent.message_id for each in found)),
    }
    seen = [name for name, (path, params, shows) in lists.items() if shows(api.ask(path, params))]
    if seen:
        raise Failed(f"the lists of {', '.join(seen)} show it although they do not name its source")
    return f"the lists of {', '.join(lists)} do not show it"


def _plain(moment: datetime) -> str:
    return moment.replace(tzinfo=None).isoformat()
