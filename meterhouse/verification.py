"""What `meterhouse verify` sends, and how it is told from what a cloud sends.

It is marked so that bills, reports and lists leave it out: samples by their source, notifications by the start of their
publisher_id, and events by their type.
"""

from typing import Final

VERIFY: Final = "meterhouse-verify"
"""The source of its samples, and how the publisher_id of its notifications starts."""

VERIFY_EVENT: Final = "meterhouse.verify"
"""The event_type of its notification."""

VERIFY_METER: Final = "meterhouse.verify.notification"
"""The meter of the sample that its notification yields."""


def sent_by_verify(publisher_id: object) -> bool:
    """Whether a notification with this publisher_id comes from `meterhouse verify`."""
    return isinstance(publisher_id, str) and publisher_id.startswith(VERIFY)
