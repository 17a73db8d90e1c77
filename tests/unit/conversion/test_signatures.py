"""Signatures of polled samples: they equal Ceilometer's, and samples without one become dead letters."""

import json
from typing import Any

import pytest
from builders import count, drop, notification, polled, polling, rows
from conftest import OpenSite

from meterhouse.archive.seal import archive
from meterhouse.catalog import catalog
from meterhouse.collection.collect import collect
from meterhouse.conversion.signatures import as_json, is_valid, signature, unsigned
from meterhouse.conversion.step import convert
from meterhouse.site import Site
from meterhouse.stores.lake import Lake

SECRET = "change this for valid signing"
BASE = {
    "source": "openstack",
    "counter_name": "cpu",
    "counter_type": "cumulative",
    "counter_unit": "ns",
    "counter_volume": 123456789,
    "user_id": "u1",
    "project_id": None,
    "resource_id": "r1",
    "timestamp": "2026-11-10T12:00:00",
    "resource_metadata": {},
    "message_id": "m1",
}
# The signatures of Ceilometer 27.0.0 for these samples, with the secret `secret`.
SIGNED = [
    ({}, "7e7c78679c391a8101f2710846addb864cb73b2dd0d166d644e9d7d5541d33cb"),
    ({"counter_volume": 0.1}, "ccfd457f8dd29460ea17de4a50b0b80b158f50c20404c7ea5518d9c225749598"),
    ({"counter_volume": 1e22}, "b40d180260397d37cb6a332bcd3cc1fb1cc6c19c76a813ca2c0170f4b3ca5ffc"),
    ({"counter_volume": -0.0}, "905b7d9dbe30073dfdca50183c9f5ee68a84b601d560982f4ee16d214da82359"),
    ({"counter_volume": True}, "5d1fd502d86d19bb28c4c5525f7a27f45f03a2597dff02b1a27c8688a45a68c9"),
    ({"counter_volume": 2**70}, "424b5326a11e44ebcaf2189c13d9a5018583d1819162d50544aa5010b2b6b1bf"),
    (
        {"resource_metadata": {"b": {"d": None, "c": False}, "a": "x"}},
        "fb10416cb0b511046927f7d54938a6c7fee9eba91f48b13819f05ebc40a4b3de",
    ),
    (
        {"resource_metadata": {"list": ["a", "é", 1, None, 2.5, True]}},
        "dae4909f6314c92aed022adcc9f6a462b00a8ac63ab69736e050764b3386cdd3",
    ),
    (
        {"resource_metadata": {"nested": [[], ["x", ["y"]], {"k": "v", "a": {"z": [1]}}]}},
        "07cb9a1cf185525b2cbc4047bf97772d37f4ae02da87aef6017c429d3664301c",
    ),
    (
        {"resource_metadata": {"empty": {}, "none": [], "text": ""}},
        "e550b6b0c220e73963026ce3a962e397da70984f9654eef1da3fbf8ac5200de4",
    ),
    (
        {"resource_metadata": {"10": "a", "9": "b", "B": 1, "a": 2, "_": 3}},
        "37f81d2eb6ed70c38854cfa8eb32be2cc0c3bb5e2429c7145a4f56514ad031d4",
    ),
    (
        {"resource_metadata": {"quote": ["it's", 'say "so"', "both '\""], "back\\slash": ["\\", "\n", "\0"]}},
        "427e95ba4c83502cc1401d3f751c988da860078525ca304d953e6dafc030072f",
    ),
    (
        {"user_id": "日本", "resource_metadata": {"😀": "é\0"}},
        "db5cc2629422fad598a3000d9106c18921583cc8e9254017152d437979c5db3a",
    ),
    (
        {"resource_metadata": {"message_signature": "kept", "a:b": 1, "a": {"b": 2}}},
        "e8a0671a5afd3e238e3dac88f27e578c8af8ba184c8aa47ac90601471b9a440f",
    ),
    ({"message_signature": "left out"}, "7e7c78679c391a8101f2710846addb864cb73b2dd0d166d644e9d7d5541d33cb"),
    (
        {"resource_metadata": None, "monotonic_time": 12.25, "project_name": "p"},
        "a7d8def543887e8189be57b30ad4b80b284d1b8ed2440a1957b9078ee9332451",
    ),
]


def signed(sample: dict[str, Any], secret: str = SECRET) -> dict[str, Any]:
    """The sample with its signature, as the polling agent sends it."""
    return {**sample, "message_signature": signature(sample, secret)}


@pytest.mark.parametrize(("more", "wanted"), SIGNED)
def test_a_sample_is_signed_as_ceilometer_signs_it(more: dict[str, Any], wanted: str) -> None:
    sample = {**BASE, **more}
    assert signature(sample, "secret") == wanted
    assert signature(dict(reversed(sample.items())), "secret") == wanted
    assert is_valid({**sample, "message_signature": wanted}, "secret")
    assert is_valid(json.loads(json.dumps({**sample, "message_signature": wanted})), "secret")


def test_the_secret_and_tuples_are_signed_as_ceilometer_signs_them() -> None:
    assert signature(BASE, "日本é") == "4beec42cd8f069b93bb0adffe2669b225c62a94804d8f85c2b4cd9e3b761af54"
    pair = "1d67296c7a4ed4e50fc4bbb13a8a10d56eebe585fc02b3afc6dccf5eae028794"
    assert signature({"a": ("x", ("y",))}, "secret") == signature({"a": ["x", ["y"]]}, "secret") == pair


@pytest.mark.parametrize(
    "change",
    [
        {"counter_volume": 123456790},
        {"counter_volume": 123456789.0},
        {"project_id": ""},
        {"resource_metadata": {"a": 1}},
        {"more": ""},
        {"message_signature": ""},
        {"message_signature": None},
        {"message_signature": 5},
        {"message_signature": ["x"]},
        {"message_signature": {"a": 1}},
        {"message_signature": "é"},
        {"message_signature": "\ud800"},
        {"message_signature": signature(BASE, SECRET).upper()},
        {"message_signature": signature(BASE, SECRET)[:-1]},
        {"message_signature": signature(BASE, "another secret")},
        {"user_id": "\ud800"},
    ],
    ids=repr,
)
def test_a_changed_sample_or_signature_is_not_valid(change: dict[str, Any]) -> None:
    assert is_valid(signed(BASE), SECRET)
    assert not is_valid({**signed(BASE), **change}, SECRET)


@pytest.mark.parametrize("sample", [None, [], "text", 5, {}, BASE], ids=repr)
def test_a_sample_without_a_signature_is_not_valid(sample: Any) -> None:
    assert not is_valid(sample, SECRET)


def test_a_sample_that_is_nested_too_deeply_is_not_valid() -> None:
    nested: Any = {}
    for _ in range(100_000):
        nested = {"a": nested}
    assert not is_valid({**BASE, "resource_metadata": nested, "message_signature": "0" * 64}, SECRET)
    nested = []
    for _ in range(100_000):
        nested = [nested]
    assert not is_valid({**BASE, "resource_metadata": {"a": nested}, "message_signature": "0" * 64}, SECRET)


def test_a_sample_that_reading_changes_is_verified_as_it_was_sent() -> None:
    sent = [signed({**BASE, "resource_id": "a\0b"}), signed({**BASE, "counter_volume": 2**70}), BASE, signed(BASE)]
    read = [{**sent[0], "resource_id": "ab"}, {**sent[1], "counter_volume": float(2**70)}, BASE, sent[3]]
    assert unsigned(read, SECRET, lambda: sent) == [2]
    assert unsigned(read, SECRET, lambda: sent[:1]) == [1, 2]
    assert unsigned(sent[3:], SECRET, lambda: pytest.fail("nothing was wrong")) == []
    assert unsigned(read, SECRET, lambda: json.loads("[" * 100_000)) == [0, 1, 2]


def test_any_sample_has_a_form_for_a_dead_letter() -> None:
    assert json.loads(as_json({"a": 2**70, "b": ["é\0", None]})) == {"a": 2**70, "b": ["é\0", None]}
    assert as_json({"a": float("nan")}) == b'{"a": NaN}'
    assert as_json("no sample") == b'"no sample"'
    nested: Any = {}
    for _ in range(100_000):
        nested = [nested]
    assert json.loads(as_json({"message_id": "m", "resource_metadata": {"a": nested}})) == {"message_id": "m"}
    assert as_json(nested) == b"{}"


# -- the pipeline ---------------------------------------------------------------------------------------------


def batches() -> list[dict[str, Any]]:
    """Twelve good samples in batches of each kind, nine bad ones, and an event."""
    good = iter(signed(polled(float(n), message_id=f"good{n}")) for n in range(12))
    unlike = [
        {**signed(polled(1.0, message_id="changed")), "counter_volume": 2.0},
        polled(1.0, message_id="not signed"),
        {**polled(1.0, message_id="a number"), "message_signature": 5},
        signed(polled(1.0, message_id="another"), "another secret"),
        {**signed(polled(1.0, message_id="copied")), "resource_id": "victim"},
        "no sample",
        polled(1.0, message_id="bare"),
        polled(1.0, message_id="alone"),
        polled(1.0, message_id="alone"),
    ]
    bad = iter(unlike)
    api = {"payload": {"samples": [next(good), next(bad), next(good)]}, "priority": "sample"}
    bare = {"payload": [next(good), next(bad), next(good)], "priority": "sample"}
    return [
        polling("p1", [next(good), next(bad), next(good), next(bad)]),
        notification("a1", "telemetry.api", **api),
        notification("b1", "metering", **bare),
        polling("p2", [next(bad), next(bad), next(bad)]),
        polling("p3", [next(good) for _ in range(6)]),
        polling("p4", [next(bad)]),
        polling("p5", [next(bad)]),
        notification("e1", "something.happened"),
    ]


def assert_told_apart(site: Site) -> None:
    assert count(site, "samples") == 12
    assert count(site, "events") == 1
    letters = rows(site, "dead_letters")
    assert len(letters) == 9
    assert all("the signature of" in letter["reason"] for letter in letters)
    assert all("is wrong" in letter["reason"] for letter in letters)
    assert {letter["queue"] for letter in letters} == {row["source"] for row in rows(site, "notifications", "source")}
    came = {row["received_at"]: row["arrival_hour"] for row in rows(site, "notifications", "received_at, arrival_hour")}
    assert all(came[letter["received_at"]] == letter["arrival_hour"] for letter in letters)
    bodies = [json.loads(letter["body"]) for letter in letters]
    assert sorted(body if isinstance(body, str) else body["message_id"] for body in bodies) == sorted(
        ["changed", "not signed", "a number", "another", "copied", "no sample", "bare", "alone", "alone"]
    )


@pytest.fixture
def signed_site(open_site: OpenSite) -> Site:
    """A site that verifies signatures."""
    return open_site(telemetry_secret=SECRET)


def test_samples_that_are_not_signed_become_dead_letters_and_the_others_samples(signed_site: Site) -> None:
    drop(signed_site.settings.spool, "a.jsonl", batches())
    assert collect(signed_site).dead_letters == 0
    done = convert(signed_site)
    assert (done.samples, done.events, done.unsigned, done.errors) == (12, 1, 9, 0)
    assert_told_apart(signed_site)
    assert convert(signed_site).unsigned == 0
    drop(signed_site.settings.spool, "again.jsonl", batches())
    assert collect(signed_site).landed == 0
    convert(signed_site)
    assert_told_apart(signed_site)


@pytest.mark.parametrize("table", ["dead_letters", "samples", "events"])
def test_a_conversion_that_ends_before_a_commit_keeps_each_dead_letter_once(
    signed_site: Site, monkeypatch: pytest.MonkeyPatch, table: str
) -> None:
    drop(signed_site.settings.spool, "a.jsonl", batches())
    collect(signed_site)
    append = Lake.append

    def broken(self: Lake, name: str, *rest: Any, **more: Any) -> int:
        if name == table:
            raise OSError("no space left")
        return append(self, name, *rest, **more)

    for _ in range(2):
        with monkeypatch.context() as patched:
            patched.setattr(Lake, "append", broken)
            with pytest.raises(OSError, match="no space left"):
                convert(signed_site)
    assert convert(signed_site).unsigned == 9
    assert_told_apart(signed_site)


def test_pieces_that_are_converted_separately_keep_each_dead_letter_once(signed_site: Site) -> None:
    for number, message in enumerate(batches()):
        drop(signed_site.settings.spool, f"{number}.jsonl", [message])
        collect(signed_site)
        if number % 2:
            convert(signed_site)
    assert_told_apart(signed_site)


def test_without_a_secret_no_signature_is_verified(site: Site) -> None:
    drop(site.settings.spool, "a.jsonl", batches())
    collect(site)
    done = convert(site)
    assert (done.samples, done.unsigned, done.errors) == (20, 0, 1)
    assert count(site, "dead_letters") == 0


def test_a_sealed_day_keeps_its_dead_letters(signed_site: Site, today: Any) -> None:
    drop(signed_site.settings.spool, "a.jsonl", batches())
    collect(signed_site)
    convert(signed_site)
    catalog(signed_site)
    assert {sealed.table_name: sealed.rows for sealed in archive(signed_site, today).sealed}["dead_letters"] == 9
    assert_told_apart(signed_site)


def test_a_signed_sample_with_values_that_conversion_changes_is_valid(signed_site: Site) -> None:
    odd = [
        polled(1.0, resource="a\0b"),
        polled(2**70),
        polled(1.0, resource_metadata={"n": 10**30, "list": ["é\0", 2**64, 1e300]}),
        polled(float("nan")),
    ]
    drop(signed_site.settings.spool, "a.jsonl", [polling("p1", [signed(sample) for sample in odd])])
    collect(signed_site)
    done = convert(signed_site)
    assert (done.samples, done.unsigned, done.errors) == (4, 0, 0)


def test_each_unusual_sample_that_is_not_signed_is_a_dead_letter(signed_site: Site) -> None:
    odd = [polled(2**70), polled(float("nan")), polled(1.0, resource_metadata={"n": 10**30}), signed(polled(1.0))]
    drop(signed_site.settings.spool, "a.jsonl", [polling("p1", odd)])
    collect(signed_site)
    done = convert(signed_site)
    assert (done.samples, done.unsigned, done.errors) == (1, 3, 0)
    assert count(signed_site, "dead_letters") == 3
