"""The site that the examples of the API's reference ask, and how an answer is compared with what an example shows."""

import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
from builders import drop, polled, polling, process
from usage_messages import created

from meterhouse.api.reference.examples import ANY, Example
from meterhouse.site import Site

TEN = datetime(2026, 11, 20, 10, tzinfo=UTC)


def fill(site: Site) -> None:
    """Collect an hour of two projects: an instance of shop that was created and polled, and one of bank."""
    drop(site.settings.spool, "hour.jsonl", hour())
    process(site)


def hour(mark: str = "") -> list[dict[str, Any]]:
    """The messages of that hour; with a mark, those of other resources."""
    return [
        created(f"{mark}web-01", TEN, tenant_id="shop", user_id="ann", display_name="web-01"),
        polling(
            f"{mark}poll-1", [*_polled(f"{mark}web-01", "shop", "ann"), *_polled(f"{mark}ledger-1", "bank", "bob")]
        ),
    ]


def _polled(resource: str, project: str, user: str) -> Iterator[dict[str, Any]]:
    whose = {"resource": resource, "project": project, "user_id": user}
    metadata = {"display_name": resource, "flavor": {"name": "m1.large"}, "server_group": "web"}
    for n, volume in enumerate((42, 48, -1, 51)):  # one of them cannot be true
        moment = TEN + timedelta(minutes=5 * n)
        more = {"counter_unit": "%", "resource_metadata": metadata, "message_id": f"{resource}-util-{n}"}
        yield polled(volume, moment, meter="cpu_util", **whose, **more)
        more = {"counter_unit": "ns", "resource_metadata": metadata, "message_id": f"{resource}-cpu-{n}"}
        yield polled(n * 120_000_000_000, moment, meter="cpu", type="cumulative", **whose, **more)
        more = {"counter_unit": "request", "resource_metadata": metadata, "message_id": f"{resource}-requests-{n}"}
        yield polled(n + 1, moment, meter="requests", type="delta", **whose, **more)


class Asking:
    """Asks examples one after the other: what an answer names, later ones can use."""

    def __init__(self, client: httpx.Client) -> None:
        self._client = client
        self._named: dict[str, str] = {}

    def ask(self, example: Example) -> list[str]:
        """What differs between an answer and what its example shows."""
        body = {} if example.body is None else {"json": self._filled(example.body)}
        headers = self._filled(dict(example.headers))
        answer = self._client.request(example.method, self._filled(example.path), headers=headers, **body)
        where = f"{example.method} {example.path}"
        if answer.status_code != example.status:
            return [f"{where}: status {answer.status_code}, not {example.status}: {answer.text[:500]}"]
        if example.answer is None:
            return [f"{where}: a body: {answer.text[:200]}"] if answer.content else []
        if isinstance(example.answer, str):
            return list(_of_text(example.answer, answer.text, where))
        found = answer.json()
        for name, path in example.named.items():
            self._named[name] = str(_at(found, path))
        return list(differences(self._filled(example.answer), found, where))

    def _filled(self, content: Any) -> Any:
        """Content with the names that earlier answers gave, written `<name>`."""
        text = json.dumps(content)
        for name, value in self._named.items():
            text = text.replace(f"<{name}>", json.dumps(value)[1:-1])
        return json.loads(text)


def _at(found: Any, path: str) -> Any:
    for step in path.split("."):
        found = found[int(step)] if isinstance(found, list) else found[step]
    return found


def differences(shown: Any, found: Any, where: str) -> Iterator[str]:
    """What differs between an answer and what is shown of it, where ANY leaves something out."""
    if shown == ANY:
        return
    if isinstance(shown, Mapping) and isinstance(found, Mapping):
        names = set(shown) - {ANY}
        if missing := names - set(found):
            yield f"{where}: no {', '.join(sorted(missing))} in {sorted(found)}"
        if ANY not in shown and (more := set(found) - names):
            yield f"{where}: also {', '.join(sorted(more))}"
        for name in names & set(found):
            yield from differences(shown[name], found[name], f"{where}.{name}")
    elif isinstance(shown, list) and isinstance(found, list):
        more = bool(shown) and shown[-1] == ANY
        entries = shown[:-1] if more else shown
        if len(found) < len(entries) or (len(found) > len(entries) and not more):
            yield f"{where}: {len(found)} entries: {str(found)[:300]}"
        for n, (each, other) in enumerate(zip(entries, found, strict=False)):
            yield from differences(each, other, f"{where}[{n}]")
    elif shown != found or type(shown) is not type(found):
        yield f"{where}: {found!r}, not {shown!r}"


def _of_text(shown: str, found: str, where: str) -> Iterator[str]:
    """Lines that are shown have to be there, in this order."""
    place = 0
    for line in shown.strip().splitlines():
        if line == ANY:
            continue
        at = found.find(line, place)
        if at < 0:
            yield f"{where}: no line {line!r}"
            return
        place = at + len(line)
