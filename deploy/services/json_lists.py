"""An HTTP server of JSON lists, which behaves as the URL asks: a stand-in for the APIs of OpenStack's services.

    python json_lists.py PORT

`GET /lists/NAME/COUNT` answers `{"NAME": [entry, …], "next": null}`. Each entry has `id` (`NAME-0`, `NAME-1`, …),
`value`, `name`, `status`, `project_id` and `user_id`. Keys of the query change the answer:

| key | effect |
|---|---|
| `limit=N` | pages of N entries: `next` is the URL of the next page; `marker=ID` begins after this entry |
| `seconds=S` | the answer comes S seconds late |
| `status=CODE` | this status, with an error as JSON |
| `cut=N` | the answer has the full length in its header, and ends after N bytes |
| `hang=1` | no answer: the connection stays open |
| `bare=1` | the list itself, without the object around it |

`PUT /behaviour/NAME`, with a JSON object of the same keys, changes all answers about NAME until
`DELETE /behaviour/NAME`. A `times` in it is for how many requests it holds. Keys of the query win.

`GET /requests` answers `[{"time": …, "path": …, "name": …, "status": …}, …]` in the order of arrival: the time in
seconds since 1970, `status` null for a request that hangs. `?name=NAME` and `?from=N` choose. `DELETE /requests`
forgets them.

One thread serves all connections, so that a thousand of them cost little. Only the standard library is used.
"""

from __future__ import annotations

import asyncio
import functools
import json
import sys
import time
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

PROJECTS = 50
MAX_ENTRIES = 1_000_000


class Lists:
    """What the server knows: the behaviours that were set, and the requests that arrived."""

    def __init__(self) -> None:
        self.behaviours: dict[str, dict[str, Any]] = {}
        self.requests: list[dict[str, Any]] = []

    def behaviour(self, name: str, query: dict[str, str]) -> dict[str, Any]:
        """Return the keys that hold for one request about a name."""
        kept = self.behaviours.get(name, {})
        if "times" in kept:
            kept["times"] -= 1
            if kept["times"] <= 0:
                del self.behaviours[name]
        return {**kept, **query}


class Connection(asyncio.Protocol):
    """One connection: requests one after the other, each answered in turn."""

    def __init__(self, lists: Lists) -> None:
        self.lists = lists
        self.received = b""
        self.busy = False
        self.transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport = None

    def data_received(self, data: bytes) -> None:
        self.received += data
        if not self.busy:
            self._take()

    def _take(self) -> None:
        """Answer the next request, if all of it has arrived."""
        head, end, rest = self.received.partition(b"\r\n\r\n")
        if not end:
            return
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {key.strip().lower(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
        length = int(headers.get("content-length") or 0)
        if len(rest) < length:
            return
        self.received = rest[length:]
        self.busy = True
        try:
            method, target, _ = first.split(" ")
            self._route(method, target, headers, rest[:length])
        except (ValueError, KeyError, TypeError) as error:
            self._answer(HTTPStatus.BAD_REQUEST, _encoded({"error": f"cannot read {first!r}: {error}"}))

    def _route(self, method: str, target: str, headers: dict[str, str], body: bytes) -> None:
        url = urlsplit(target)
        query = dict(parse_qsl(url.query))
        match method, *url.path.strip("/").split("/"):
            case "GET", "lists", name, count:
                self._list(target, headers.get("host", ""), name, min(int(count), MAX_ENTRIES), query)
            case "PUT", "behaviour", name:
                self.lists.behaviours[name] = dict(json.loads(body))
                self._answer(HTTPStatus.OK, b"{}")
            case "DELETE", "behaviour", name:
                self.lists.behaviours.pop(name, None)
                self._answer(HTTPStatus.OK, b"{}")
            case "GET", "requests":
                chosen = self.lists.requests[int(query.get("from", 0)) :]
                if "name" in query:
                    chosen = [request for request in chosen if request["name"] == query["name"]]
                self._answer(HTTPStatus.OK, _encoded(chosen))
            case "DELETE", "requests":
                self.lists.requests.clear()
                self._answer(HTTPStatus.OK, b"{}")
            case "GET", "":
                self._answer(HTTPStatus.OK, b'{"versions": []}')
            case _:
                self._answer(HTTPStatus.NOT_FOUND, _encoded({"error": f"no {url.path}"}))

    def _list(self, target: str, host: str, name: str, count: int, query: dict[str, str]) -> None:
        keys = self.lists.behaviour(name, query)
        hangs, status = bool(int(keys.get("hang", 0))), HTTPStatus(int(keys.get("status", 200)))
        self.lists.requests.append(
            {"time": time.time(), "path": target, "name": name, "status": None if hangs else status}
        )
        if hangs:
            return
        if status >= 400:
            body = _encoded({"error": {"code": status, "message": "asked for by the URL"}})
        else:
            start = _after(keys.get("marker"))
            stop = min(count, start + int(keys["limit"])) if "limit" in keys else count
            following = None
            if stop < count:
                marked = {**query, "marker": f"{name}-{stop - 1}"}
                following = f"http://{host}/lists/{quote(name)}/{count}?{urlencode(marked)}"
            body = _page(name, start, stop, following, bool(int(keys.get("bare", 0))))
        cut = int(keys["cut"]) if "cut" in keys else None
        late = float(keys.get("seconds", 0))
        if late:
            asyncio.get_running_loop().call_later(late, self._answer, status, body, cut)
        else:
            self._answer(status, body, cut)

    def _answer(self, status: HTTPStatus, body: bytes, cut: int | None = None) -> None:
        """Send an answer, and go on with the next request. `cut` ends the connection after so many bytes of it."""
        if self.transport is None:
            return
        head = (
            f"HTTP/1.1 {status} {status.phrase}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        self.transport.write(head.encode())
        self.transport.write(body[:cut])
        self.busy = False
        if cut is not None:
            self.transport.close()
        elif self.received:
            self._take()


def _after(marker: str | None) -> int:
    """Return the number of the first entry after that with this id."""
    return int(marker.rpartition("-")[2]) + 1 if marker else 0


@functools.lru_cache(maxsize=64)
def _page(name: str, start: int, stop: int, following: str | None, bare: bool) -> bytes:
    """Return the entries from `start` to before `stop` as JSON."""
    entries = [
        {
            "id": f"{name}-{number}",
            "name": f"{name} {number}",
            "value": number,
            "status": "ACTIVE",
            "project_id": f"project-{number % PROJECTS}",
            "user_id": "user",
        }
        for number in range(start, stop)
    ]
    return _encoded(entries if bare else {name: entries, "next": following})


def _encoded(value: Any) -> bytes:
    return json.dumps(value).encode()


async def serve(port: int) -> None:
    """Serve on a loopback port until the process ends."""
    lists = Lists()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(lists), "127.0.0.1", port, backlog=4096)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
