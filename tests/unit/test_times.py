"""Times as people give them."""

from datetime import UTC, date, datetime, timedelta

import pytest

from meterhouse import times
from meterhouse.errors import UsageError

NOW = datetime(2026, 11, 22, 14, 30, 15, 250, tzinfo=UTC)
MIDNIGHT = datetime(2026, 11, 22, tzinfo=UTC)


@pytest.fixture(autouse=True)
def _now(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(times, "now", lambda: NOW)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("now", NOW),
        ("today", MIDNIGHT),
        ("yesterday", MIDNIGHT - timedelta(days=1)),
        (" Yesterday ", MIDNIGHT - timedelta(days=1)),
        ("-30s", NOW - timedelta(seconds=30)),
        ("-90m", NOW - timedelta(minutes=90)),
        ("-12h", NOW - timedelta(hours=12)),
        ("-1d", NOW - timedelta(days=1)),
        ("-2w", NOW - timedelta(weeks=2)),
        ("-0d", NOW),
        ("2026-11-20", datetime(2026, 11, 20, tzinfo=UTC)),
        ("2026-11-20T10:00:00Z", datetime(2026, 11, 20, 10, tzinfo=UTC)),
        ("2026-11-20T10:00:00+02:00", datetime(2026, 11, 20, 8, tzinfo=UTC)),
    ],
)
def test_a_time_is_iso_8601_or_a_word_or_a_time_ago(text: str, wanted: datetime) -> None:
    assert times.parse(text) == wanted


@pytest.mark.parametrize(
    "text", ["", "-", "-1", "-d", "-1y", "-1D", "-1.5h", "1d", "--1d", "- 1d", "-١d", "tomorrow", "soon"]
)
def test_what_is_not_a_time_is_refused_with_what_is(text: str) -> None:
    with pytest.raises(UsageError, match=f"'{text}' is not a time. Write ISO 8601, .* yesterday, -90m"):
        times.parse(text)


@pytest.mark.parametrize("text", ["-999999999w", "-999999999d", "-3000w", "1969-12-31", "2262-01-01", "0001-01-01"])
def test_a_time_that_no_sample_can_have_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=f"'{text}' is out of reach"):
        times.parse(text)


def test_a_day_is_a_date_or_a_word() -> None:
    assert times.parse_day("today") == date(2026, 11, 22)
    assert times.parse_day("yesterday") == date(2026, 11, 21)
    assert times.parse_day("2026-11-01") == date(2026, 11, 1)
    for text in ("now", "-1d", "2026-13-01", "2026-11-20T10:00:00Z"):
        with pytest.raises(UsageError, match=f"'{text}' is not a day. Write YYYY-MM-DD, today or yesterday"):
            times.parse_day(text)
    with pytest.raises(UsageError, match="out of reach"):
        times.parse_day("1969-12-31")
