from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meterhouse.timestamps import parse, parse_all, parse_datetime, parse_exact, parse_utc

MOMENT = 1_395_003_213_452_786


@pytest.mark.parametrize(
    "text",
    [
        "2014-03-16 20:53:33.452786",
        "2014-03-16T20:53:33.452786",
        "2014-03-16T20:53:33.452786Z",
        "2014-03-16T20:53:33.452786+00:00",
        "2014-03-16T22:53:33.452786+0200",
        "2014-03-16 15:23:33.4527869-05:30",
        "20140316T205333,452786",
        "2014-03-16 2053:33.452786",
    ],
)
def test_all_spellings_of_a_time_are_equal(text):
    assert parse_exact(text) == MOMENT
    assert parse(text) == MOMENT


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1970-01-01", 0),
        ("1970", 0),
        ("1970-1-2", 86_400_000_000),
        ("1970-01-01T01", 3_600_000_000),
        ("1970-01-01 00:00:01", 1_000_000),
        ("1969-12-31 23:59:59.5", -500_000),
    ],
)
def test_missing_parts_have_their_lowest_value(text, expected):
    assert parse_exact(text) == expected


def test_spaces_around_a_timestamp_do_not_matter_unless_it_must_be_exact():
    assert parse("2014-03-16 20:53:33.452786   ") == MOMENT
    with pytest.raises(ValueError, match="Unable to parse date string '2014"):
        parse_exact("2014-03-16 20:53:33.452786   ")


@pytest.mark.parametrize(
    "text",
    ["", " ", "now", "2015-06-1909:19:35.786893", "2014-13-01", "201403", None, 5,
     "2014-03-16 20:53:61", "2014-03-16T20:53:33+99:99", "２０１４-03-16 20:53:33", "2014-03-16T20:53:33+05:30:15",
     "2014-W11-1T20:53:33", "2014-03-16T20:53:33.+05:00", "2014-03-16T20:53:33.5 +05:00", "2014-03-16T20:53:33z"],
)  # fmt: skip
def test_a_malformed_timestamp_is_a_value_error(text):
    with pytest.raises(ValueError, match=r".+"):
        parse(text)


def test_a_time_before_the_first_year_or_after_the_last_is_valid():
    day = 86_400_000_000
    assert parse_exact("0001-01-01T00:00:00+05:00") == parse_exact("0001-01-02T00:00:00+05:00") - day
    assert parse_exact("9999-12-31T23:00:00-05:00") == parse_exact("9999-12-30T23:00:00-05:00") + day
    with pytest.raises(ValueError, match="years 1 to 9999"):
        parse_utc("0001-01-01T00:00:00+05:00")


def test_a_newline_may_follow_a_timestamp():
    assert parse_exact("2014-03-16 20:53:33.452786\n") == MOMENT


def test_parse_datetime_keeps_the_offset():
    moment = parse_datetime("2014-03-16T22:53:33+02:00")
    assert moment.isoformat() == "2014-03-16T22:53:33+02:00"
    assert parse_utc("2014-03-16T22:53:33+02:00") == datetime(2014, 3, 16, 20, 53, 33)


@given(
    st.datetimes(min_value=datetime(1900, 1, 1), max_value=datetime(2300, 1, 1)),
    st.none() | st.integers(-840, 840),
)
def test_every_time_is_read_back(moment, minutes):
    zone = None if minutes is None else timezone(timedelta(minutes=minutes))
    aware = moment.replace(tzinfo=zone or UTC)
    expected = (aware - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    assert parse_exact(moment.replace(tzinfo=zone).isoformat()) == expected
    assert parse_exact(moment.replace(tzinfo=zone).isoformat(" ")) == expected


@given(st.text(max_size=40))
def test_any_text_is_a_time_or_a_value_error(text):
    with suppress(ValueError):
        assert isinstance(parse(text), int)


def outcome(read, texts):
    try:
        return read(texts)
    except ValueError:
        return "malformed"


@given(
    st.lists(
        st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31)).map(str)
        | st.datetimes().map(lambda moment: moment.isoformat(timespec="milliseconds"))
        | st.dates().map(str)
        | st.sampled_from(["2026-01-01T00:00:00Z", "2026-01-01 00", "0000-01-01", " 2026-01-01", "2026-01-01T24:00:00"])
        | st.from_regex(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[ T][0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,9})?", fullmatch=True),
        min_size=1,
        max_size=3,
    )
)
def test_many_timestamps_at_once_equal_each_alone(texts):
    many = texts * 50
    assert outcome(parse_all, many) == outcome(lambda all: [parse_exact(text) for text in all], many)
