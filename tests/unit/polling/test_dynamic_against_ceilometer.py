"""Dynamic pollsters give what Ceilometer's own give: `tests/data/dynamic_pollsters` has the answers of Ceilometer 27.

What is different is different on purpose:

- A volume is a number: a text that is one becomes one, and what is none gives a warning in place of a sample.
- A sample has a resource, whose id is a text.
- An entry that cannot be used costs no other: Ceilometer loses the rest of the answer, and often all of it.
- A `null` where entries should be is no entry, and a single entry can have its ids anywhere, as those of a list.
- `value_mapping` gives the default for a list or a mapping; an answer that is a list has no further page.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from meterhouse.definitions.entries import Faults
from meterhouse.polling.asking import Asking
from meterhouse.polling.kinds.dynamic import compile_poll
from meterhouse.polling.kinds.dynamic.extraction import Unusable
from meterhouse.polling.kinds.dynamic.samples import number
from meterhouse.polling.polled import Piece, Polled, PollError, WireSample
from meterhouse.settings import read_settings
from tests.data.dynamic_pollsters.record import body, cases
from tests.dynamic_pollsters import keystone_routes, slot, source
from tests.web import Raw, web

RECORDED = Path(__file__).parents[2] / "data" / "dynamic_pollsters" / "ceilometer.jsonl"


def test_samples_are_those_of_ceilometer() -> None:
    recorded = [json.loads(line) for line in RECORDED.read_text().splitlines()]
    different = []
    compared = 0
    with web({}) as server:
        login = keystone_routes(service=server.url, identity=server.url)
        asking = Asking(read_settings(keystone_url=f"{server.url}/v3", keystone_username="u", keystone_password="p"))
        for (name, about, definition, answers), peer in zip(cases(), recorded, strict=True):
            assert (peer["definition"], peer["answer"]) == (name, about)
            server.routes = {path: Raw(body=body(answer, server.url).encode()) for path, answer in answers.items()}
            server.routes.update(login)
            server.requests.clear()
            faults = Faults()
            poll = compile_poll(definition, faults)
            faults.raise_if_any()
            assert poll is not None
            try:
                found, error = poll.poll(asking, slot(), Piece(), source(server.url)), None
            except PollError as caught:
                found, error = Polled(), caught
            ours = [_as_peer(sample) for sample in found.samples]
            wanted = [each for sample in peer["samples"] if (each := _wanted(sample)) is not None]
            asked = {path for path in server.paths() if path != "/v3/auth/tokens"}
            if peer["error"] is None:
                is_same = ours == wanted and asked == set(peer["asked"]) and error is None
                left_out = len(peer["samples"]) - len(wanted)
                is_same = is_same and bool(left_out) == bool(found.warnings or found.rests)
                compared += 1
            else:  # what it gave before its error
                is_same = ours[: len(wanted)] == wanted
            if not is_same:
                different.append((name, about, wanted, ours, peer["asked"], asked, error, found.warnings))
        asking.close()
    assert different == []
    assert compared > 300


def _as_peer(sample: WireSample) -> dict[str, Any]:
    """A sample of ours with the names of the record."""
    fields = ("name", "type", "unit", "volume")
    return {
        **{field: sample[f"counter_{field}"] for field in fields},
        **{field: sample[field] for field in ("user_id", "project_id", "resource_id")},
        "metadata": sample["resource_metadata"],
    }


def _wanted(sample: Mapping[str, Any]) -> dict[str, Any] | None:
    """A sample of Ceilometer's as ours has to be; None if there has to be none."""
    try:
        volume = number(sample["volume"])
    except Unusable:
        return None
    if sample["resource_id"] in (None, ""):
        return None
    ids = {name: None if sample[name] is None else str(sample[name]) for name in ("user_id", "project_id")}
    return {**sample, **ids, "resource_id": str(sample["resource_id"]), "volume": volume}
