"""The heartbeat: a webhook after each evaluation of the alarms, so that somebody notices when there are none any more.

It is no notification: it is not in the outbox, and it is not repeated, because the next cycle has its own. A thread
sends it, so that no cycle waits for its receiver. One that is still on its way is not joined by another.
"""

import asyncio
import json
import logging
import threading
import time
import uuid
from typing import Any

from meterhouse.alarms.definitions.actions import receiver, without_userinfo
from meterhouse.alarms.delivery import signature, tls
from meterhouse.alarms.delivery.call import Answer, Request, post
from meterhouse.alarms.delivery.resolving import Resolver
from meterhouse.errors import MeterhouseError
from meterhouse.settings import Settings

log = logging.getLogger(__name__)

_one_at_a_time = threading.Lock()


def beat(settings: Settings, figures: dict[str, Any]) -> threading.Thread | None:
    """Call METERHOUSE_ALARM_HEARTBEAT_URL, if it is set. It returns at once; the call ends by its own time limit.

    Args:
        settings: the site's.
        figures: what the cycle did, for the body: numbers and texts.

    Returns:
        The thread that sends it; None if there is no URL, or the one before is still on its way.
    """
    if not settings.alarm_heartbeat_url or not _one_at_a_time.acquire(blocking=False):
        return None

    def send() -> None:
        try:
            answer = _sent(settings, figures)
            if answer.error is not None:
                where = receiver(without_userinfo(settings.alarm_heartbeat_url)[0])
                log.warning("the heartbeat of the alarms has not reached %s: %s", where, answer.error)
        finally:
            _one_at_a_time.release()

    thread = threading.Thread(target=send, name="alarm-heartbeat")
    thread.start()
    return thread


def _sent(settings: Settings, figures: dict[str, Any]) -> Answer:
    url, userinfo = without_userinfo(settings.alarm_heartbeat_url)
    key = str(uuid.uuid4())
    body = json.dumps({"heartbeat": "alarms", **figures}, default=str).encode()
    headers = {"content-type": "application/json", "idempotency-key": key}
    if settings.webhook_secret:
        headers |= signature.headers(settings.webhook_secret, key, int(time.time()), body)
    try:
        context = tls.context(settings, url, origin="file", trusted=False) if url.startswith("https:") else None
    except (MeterhouseError, ValueError) as error:
        return Answer(str(error))
    with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
        request = Request(url, userinfo, headers, body, "file", context)
        return runner.run(_call(request, settings.webhook_timeout_seconds))


async def _call(request: Request, seconds: float) -> Answer:
    return await post(request, Resolver(()), seconds)
