"""Signatures of webhooks: HMAC-SHA256 over id, time and body, by the rules of Standard Webhooks.

The scheme is that of https://www.standardwebhooks.com/: the headers `webhook-id` (the idempotency key),
`webhook-timestamp` (seconds since 1970-01-01) and `webhook-signature`, which is `v1,` and the Base64 of the HMAC of
`ID.TIMESTAMP.BODY`. So the libraries of that standard verify it.
"""

import base64
import hashlib
import hmac
from typing import Final

TOLERANCE: Final = 300
"""By how many seconds the time of a signature may differ from the receiver's clock."""

_PREFIX: Final = "whsec_"


def headers(secret: str, message_id: str, timestamp: int, body: bytes) -> dict[str, str]:
    """The headers that a signed call has.

    Args:
        secret: text, or `whsec_` and the Base64 of the key.
        message_id: the idempotency key.
        timestamp: the present, in seconds since 1970-01-01.
        body: what is sent.
    """
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": f"v1,{_digest(secret, message_id, str(timestamp), body)}",
    }


def of_project(secret: str, project_id: str) -> str:
    """The secret by which webhooks of a project's alarms from the outside are signed.

    It is made from the site's. With the site's own secret, a tenant could let Meterhouse sign what an operator's
    receiver takes for an alarm of the operator.
    """
    made = hmac.new(_key(secret), f"project:{project_id}".encode(), hashlib.sha256).digest()
    return _PREFIX + base64.b64encode(made).decode()


def is_valid(secret: str, given: dict[str, str], body: bytes, now: float) -> bool:
    """Whether a call that was received is signed with this secret, and its time is not far from `now`.

    Args:
        secret: as in `headers`.
        given: the headers of the call, with names in lower case.
        body: what was received.
        now: seconds since 1970-01-01.
    """
    message_id, timestamp = given.get("webhook-id", ""), given.get("webhook-timestamp", "")
    if not timestamp.isdecimal() or abs(now - int(timestamp)) > TOLERANCE:
        return False
    wanted = f"v1,{_digest(secret, message_id, timestamp, body)}"
    return any(hmac.compare_digest(wanted, each) for each in given.get("webhook-signature", "").split())


def _digest(secret: str, message_id: str, timestamp: str, body: bytes) -> str:
    signed = f"{message_id}.{timestamp}.".encode() + body
    return base64.b64encode(hmac.new(_key(secret), signed, hashlib.sha256).digest()).decode()


def _key(secret: str) -> bytes:
    return base64.b64decode(secret.removeprefix(_PREFIX)) if secret.startswith(_PREFIX) else secret.encode()
