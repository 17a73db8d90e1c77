"""Checks of the API itself: whether it answers, which version it is, whether its clock is right."""

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

from meterhouse import __version__, times
from meterhouse.verifying.asking import Api, content_of
from meterhouse.verifying.findings import Failed

CLOCK_SECONDS: Final = 5.0
"""How far the clocks may be apart: points from the future are excluded by the quality rules."""


def reachable(api: Api) -> str:
    """Whether Ceilometer's versions are answered."""
    answer = api.send("GET", "/")
    found = content_of(answer, "GET /") if answer.status_code in (200, 300) else None
    if not isinstance(found, dict) or "versions" not in found:
        raise Failed(f"{api.url} is no API of Meterhouse: GET / was answered {answer.status_code}", "Check --api")
    return f"{api.url} answers"


def ready(api: Api) -> str:
    """Whether the stores behind the API answer."""
    answer = api.send("GET", "/readyz")
    parts = content_of(answer, "GET /readyz")
    named = {name: state for name, state in parts.items() if name != "status"} if isinstance(parts, dict) else {}
    bad = [f"{name} is {state}" for name, state in named.items() if state != "ok"]
    if answer.status_code != 200:
        raise Failed(
            f"the API is not ready: {', '.join(bad) or answer.text[:200]}", "Run `meterhouse doctor` on the site"
        )
    return f"{', '.join(named)} answer"


def same_version(api: Api) -> str:
    """Whether the API and this command are of one version."""
    found = api.ask("/openapi.json")
    there = str(found["info"]["version"]) if isinstance(found, dict) and "info" in found else "unknown"
    if there != __version__:
        raise Failed(
            f"the API is Meterhouse {there}, and this command is {__version__}",
            "Run the command of the API's version, or upgrade the site",
        )
    return f"both are Meterhouse {there}"


def same_clock(api: Api) -> str:
    """Whether the clocks of the API's machine and of this one agree."""
    before = times.now()
    answer = api.send("GET", "/healthz")
    after = times.now()
    try:
        there = parsedate_to_datetime(answer.headers.get("date", ""))
    except ValueError:
        raise Failed("the API's answers have no Date", "Check --api: a proxy may remove it") from None
    there = there.replace(tzinfo=UTC) if there.tzinfo is None else there
    apart = _apart(before, after, there)
    if abs(apart) > CLOCK_SECONDS:
        raise Failed(
            f"the API's clock is {abs(apart):.0f} s {'ahead of' if apart > 0 else 'behind'} this machine's",
            "Let both follow NTP: points from the future are excluded, and alarms look at the last minutes",
        )
    return f"the API's clock and this machine's are less than {max(abs(apart), 1):.0f} s apart"


def _apart(before: datetime, after: datetime, there: datetime) -> float:
    """By how many seconds a clock is ahead, at least; its time has no fractions of seconds."""
    if there > after:
        return (there - after).total_seconds()
    behind = (before - there).total_seconds() - 1
    return -behind if behind > 0 else 0.0
