from hypothesis import given
from hypothesis import strategies as st

from meterhouse import identity

TEXT = st.none() | st.text(max_size=4) | st.text(alphabet="\x00\x1b\x1fa012", max_size=3)
SERIES = st.tuples(TEXT, st.text(max_size=3), st.text(max_size=3), TEXT, TEXT, TEXT, TEXT)


def test_ids_are_the_same_on_every_machine_and_in_every_release():
    assert identity.series_id("openstack", "cpu", "cumulative", "ns", "r", "p", "u") == -1175397924540059864
    assert identity.series_id("openstack", "cpu", "cumulative", "ns", "r", None, "") == -5761417907496396098
    assert identity.sample_id("4d865c6e-1664-11e5-9d41-0819a6cff905") == -3338610104262710491
    assert identity.sample_id("m", "cpu", 1) == 4880049423071297829
    assert identity.metadata_id(b"{}") == 1389868326933519382


def test_a_missing_dimension_is_not_an_empty_one():
    assert identity.series_id("s", "m", "gauge", "B", "r", None, "u") != identity.series_id(
        "s", "m", "gauge", "B", "r", "", "u"
    )


@given(SERIES, SERIES)
def test_only_equal_series_share_an_id(one, other):
    assert (identity.series_id(*one) == identity.series_id(*other)) == (one == other)


@given(SERIES)
def test_ids_fit_a_signed_64_bit_column(series):
    assert -(1 << 63) <= identity.series_id(*series) < 1 << 63


def test_the_memory_of_series_is_bounded(monkeypatch):
    monkeypatch.setattr(identity, "_MEMO_LIMIT", 3)
    monkeypatch.setattr(identity, "_memo", {})
    first = identity.series_id("s", "0", "gauge", "B", "r", "p", "u")
    for number in range(10):
        identity.series_id("s", str(number), "gauge", "B", "r", "p", "u")
        assert len(identity._memo) <= 3
    assert identity.series_id("s", "0", "gauge", "B", "r", "p", "u") == first


def test_samples_of_one_notification_have_different_ids():
    ids = {identity.sample_id("m", meter, ordinal) for meter in ("cpu", "cpu1") for ordinal in range(12)}
    assert len(ids) == 24
