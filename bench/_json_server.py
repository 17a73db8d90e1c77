"""An HTTP server of JSON lists, to be polled: one process, standard library only.

    python _json_server.py [LATENCY_SECONDS]

It prints its port on stdout. GET /NAME-N/anything answers {"items": [N entries]} after the latency, and /counts answers
{path: number of requests}. Answers are made once, so that the server takes next to no time of the processor.
"""

import asyncio
import json
import sys
from collections import Counter


class Server(asyncio.Protocol):
    """One connection."""

    latency = 0.0
    counts: Counter[str] = Counter()
    answers: dict[str, bytes] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport, self._text = transport, b""

    def data_received(self, data: bytes) -> None:
        self._text += data
        while b"\r\n\r\n" in self._text:
            head, _, self._text = self._text.partition(b"\r\n\r\n")
            path = head.split(b" ", 2)[1].decode().partition("?")[0]
            if path == "/counts":
                self._transport.write(answer(self.counts))
                continue
            self.counts[path] += 1
            asyncio.get_running_loop().call_later(self.latency, self._answer, path.split("/")[1])

    def _answer(self, name: str) -> None:
        if name not in self.answers:
            self.answers[name] = answer({"items": entries(name)})
        if not self._transport.is_closing():
            self._transport.write(self.answers[name])


def entries(name: str) -> list[dict[str, object]]:
    """The resources of an endpoint such as `e0-10000`."""
    return [
        {
            "id": f"{name}-{at}",
            "value": at,
            "project_id": f"project-{at % 50}",
            "user_id": "user",
            "name": f"name-{at}",
            "status": "ACTIVE",
        }
        for at in range(int(name.rpartition("-")[2]))
    ]


def answer(content: object) -> bytes:
    """The response whose body is this JSON."""
    body = json.dumps(content).encode()
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body) + body


async def main() -> None:
    Server.latency = float(sys.argv[1]) if len(sys.argv) > 1 else 0.0
    server = await asyncio.get_running_loop().create_server(Server, "127.0.0.1", 0, backlog=1_000)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
