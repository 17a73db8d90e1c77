"""The access log: a line of JSON for each request, written beside the loop that talks to clients."""

import queue
import sys
import threading
from contextlib import suppress
from datetime import UTC, datetime
from typing import BinaryIO, Final

import orjson

from meterhouse.api.entry.request_ids import request_id
from meterhouse.api.watching.observed import Observation
from meterhouse.settings import without_passwords

WAITING: Final = 10_000
"""How many lines wait to be written at most. If their reader is slower, further ones are dropped, and counted."""

TEXT: Final = 2_000
"""Length of a path and of a query in a line at most."""


class AccessLog:
    """Writes what was observed. `close` it at the end.

    Args:
        out: where the lines go; default standard output.
    """

    def __init__(self, out: BinaryIO | None = None) -> None:
        self._out = out or sys.stdout.buffer
        self._waiting: queue.Queue[bytes | None] = queue.Queue(WAITING)
        self._dropped = 0
        self._thread = threading.Thread(target=self._write, name="access log", daemon=True)
        self._thread.start()

    def observe(self, seen: Observation) -> None:
        """Log a request."""
        dropped, self._dropped = self._dropped, 0
        try:
            self._waiting.put_nowait(line(seen, dropped))
        except queue.Full:
            self._dropped = dropped + 1

    def close(self, seconds: float = 5.0) -> None:
        """Write the lines that wait.

        Args:
            seconds: to wait for it at most.
        """
        with suppress(queue.Full):
            self._waiting.put(None, timeout=seconds)
            self._thread.join(seconds)

    def _write(self) -> None:
        while True:
            lines = [self._waiting.get()]
            with suppress(queue.Empty):
                while lines[-1] is not None:
                    lines.append(self._waiting.get_nowait())
            with suppress(OSError, ValueError):  # its reader may have gone
                self._out.write(b"".join(each for each in lines if each is not None))
                self._out.flush()
            if lines[-1] is None:
                return


def line(seen: Observation, dropped: int = 0) -> bytes:
    """The line of a request, without secrets.

    Args:
        seen: the request.
        dropped: how many lines before this one were not written.
    """
    scope, identity = seen.scope, seen.identity
    client = scope.get("client")
    fields = {
        "time": datetime.now(UTC).replace(tzinfo=None).isoformat(timespec="milliseconds") + "Z",
        "request_id": request_id(scope),
        "method": scope["method"][:20],
        "path": scope["path"][:TEXT],
        "query": without_passwords(f"?{scope['query_string'].decode('latin-1')}")[1 : TEXT + 1],
        "status": seen.status,
        "bytes": seen.sent,
        "seconds": round(seen.seconds, 6),
        "user": identity.user_id if identity else None,
        "project": identity.project_id if identity else None,
        "remote": client[0] if client else None,
    }
    if dropped:
        fields["dropped"] = dropped
    return orjson.dumps(fields, option=orjson.OPT_APPEND_NEWLINE)
