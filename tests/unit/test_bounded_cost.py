"""Limits on what definitions and messages cost: malicious files and texts end in one line, with little memory."""

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from builders import count, drop, notification, polled, polling
from conftest import OpenSite

from meterhouse.catalog import catalog
from meterhouse.collection.collect import collect
from meterhouse.conversion.step import convert
from meterhouse.definitions import quality_rules
from meterhouse.definitions.expressions import MATCH_LIMIT, compile_expression
from meterhouse.definitions.patterns import MAX_RESULT, compile_pattern, substitute
from meterhouse.errors import DefinitionError
from meterhouse.site import Site
from meterhouse.stream.envelope import BadMessage, unwrap
from meterhouse.yaml_lines import MAX_BYTES, MAX_DEPTH

MEMORY = 1 << 30
SECONDS = 60
"""Processor time for all files together. Without limits, it would take longer than the age of the universe."""

METER = """metric:
  - name: good
    event_type: good
    type: gauge
    unit: u
    volume: 1
    resource_id: payload.id
  - name: bad
    event_type: {event_type}
    type: gauge
    unit: u
    volume: {volume}
    resource_id: payload.id
"""


def meter(volume: str = "1", event_type: str = "bad") -> str:
    return METER.format(volume=volume, event_type=event_type)


def laughs(levels: int = 12) -> str:
    """Lists of lists of lists, 9 to the power of `levels` values by aliases."""
    lines = ["l0: &l0 [" + ", ".join(["ha"] * 9) + "]"]
    lines += [f"l{n}: &l{n} [" + ", ".join([f"*l{n - 1}"] * 9) + "]" for n in range(1, levels)]
    return "\n".join(lines) + "\n"


def merges(levels: int = 24) -> str:
    """Mappings that are merged from two of the level below, and so on."""
    lines = ["m0: &m0 {a: 1}"]
    lines += [f"m{n}: &m{n}\n  <<: [*m{n - 1}, *m{n - 1}]" for n in range(1, levels)]
    return "\n".join(lines) + "\n"


# A meters.yaml, the error for it, and its line.
FILES = {
    "nested lists": ("metric: " + "[" * 100_000, f"nested more than {MAX_DEPTH} levels", 1),
    "nested mappings": ("metric: " + "{a: " * 100_000, f"nested more than {MAX_DEPTH} levels", 1),
    "nested dashes": ("metric:\n  " + "- " * 100_000 + "x", f"nested more than {MAX_DEPTH} levels", 2),
    "nested keys": ("? " * 100_000 + "x", f"nested more than {MAX_DEPTH} levels", 1),
    "nested blocks": (
        "".join(" " * n + "a:\n" for n in range(2_000)),
        f"nested more than {MAX_DEPTH} levels",
        MAX_DEPTH + 1,
    ),
    "aliases of aliases": (laughs() + "metric: []\n", "values, counting those that aliases stand for", 6),
    "merges of merges": (merges() + "metric: []\n", "values, counting those that aliases stand for", None),
    "an alias of itself": ("metric: &a\n  - *a\n", "the alias 'a' is part of what it stands for", 2),
    "a large file": ("# " + "x" * 50_000_000, f"larger than {MAX_BYTES >> 20} MiB", 1),
    "many values": ("metric: [" + "a," * 600_000 + "]", "has more than 500,000 values", 1),
    "a number without end": ("metric: " + "9" * 1_000_000, "Exceeds the limit", None),
    "nested brackets": (meter("'" + "(" * 4_000 + "payload.a" + ")" * 4_000 + "'"), "nested too deeply", 12),
    "nested filters": (meter("'payload" + "[?(@.a" * 1_000 + ")]" * 1_000 + "'"), "nested too deeply|no JSONPath", 12),
    "a long path": (meter("payload" + ".a" * 100_000), "has more than 10000 characters", 12),
    "many paths": (meter("[" + ", ".join(["payload.a"] * 50_000) + "]"), "has more than 10000 characters", 12),
    "a long sum": (meter("'$.payload.a" + " + $.payload.a" * 100_000 + "'"), "has more than 10000 characters", 12),
    "a costly event type": (meter(event_type="(a+)+$"), "can match a text in too many ways", 9),
    "a long event type": (meter(event_type="a?" * 100_000), "has more than 4096 characters", 9),
    "a nested event type": (
        meter(event_type="'" + "(" * 1_900 + ")" * 1_900 + "'"),
        "nested too deeply|is not a regular expression|too many groups",
        9,
    ),
    "a costly substitution": (
        meter("'payload.a.`sub(/(a|aa)+$/, x)`'"),
        "can match a text in too many ways",
        12,
    ),
    "a costly filter": (meter("""payload.a[?(@.b ~ "(x+x+)+y")].c"""), "can match a text in too many ways", 12),
    "an odd value": (laughs(5) + meter("*l4"), "has more than 10000 characters", 5),
}

LOAD = """
import json, resource, sys
from pathlib import Path
from meterhouse.definitions.loading import load_files
from meterhouse.errors import DefinitionError
resource.setrlimit(resource.RLIMIT_AS, ({memory}, {memory}))
resource.setrlimit(resource.RLIMIT_CPU, ({seconds}, {seconds}))
for path in map(Path, sys.argv[1:]):
    try:
        loaded = load_files([path], None)
        said, good = [str(fault) for fault in loaded.faults], [meter.name for meter in loaded.meters.meters]
    except DefinitionError as error:
        said, good = [str(error)], []
    print(json.dumps([path.name, said, good]), flush=True)
"""


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[list[str], list[str]]]:
    """The errors and meters of each file, read by a process with little memory."""
    folder = tmp_path_factory.mktemp("definitions")
    paths = []
    for name, (content, *_) in FILES.items():
        paths.append(folder / f"{name}.yaml")
        paths[-1].write_text(content)
    program = LOAD.format(memory=MEMORY, seconds=SECONDS)
    done = subprocess.run([sys.executable, "-c", program, *map(str, paths)], capture_output=True, text=True)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0, f"ended by {done.returncode} after {found[-1:]}: {done.stderr[-2000:]}"
    return {Path(name).stem: (said, good) for name, said, good in found}


@pytest.mark.parametrize("name", FILES)
def test_a_file_that_would_take_too_much_is_one_line_that_says_where(
    loaded: dict[str, tuple[list[str], list[str]]], name: str
) -> None:
    _, reason, line = FILES[name]
    (said,), good = loaded[name]
    assert any(each in said for each in reason.split("|")), said
    assert f"{name}.yaml:{line or ''}".rstrip(":") in said
    assert "\n" not in said
    assert len(said) < 800
    # An invalid meter does not affect the others.
    assert good == (["good"] if "'bad' is left out" in said else [])


@pytest.mark.parametrize(
    ("content", "reason", "line"),
    [
        ("rules: " + "[" * 100_000, "nested more than", 1),
        (laughs() + "rules: []", "counting those that aliases stand for", 6),
        ("rules:\n  - &a\n    - *a", "is part of what it stands for", 3),
        ("#" * 5_000_000, "larger than 4 MiB", 1),
        ("rules: 2026-13-45", "no list `rules`", 1),
    ],
    ids=["nested", "aliases", "itself", "large", "no date"],
)
def test_files_of_rules_and_alarms_are_bounded_too(tmp_path: Path, content: str, reason: str, line: int | None) -> None:
    (tmp_path / "quality.yaml").write_text(content)
    with pytest.raises(DefinitionError) as caught:
        quality_rules.load(tmp_path)
    assert reason in str(caught.value)
    assert str(caught.value).startswith(f"{tmp_path / 'quality.yaml'}:{line or ''}")
    assert "\n" not in str(caught.value)


# -- expressions on messages ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "expression",
    [
        "$.payload.a[*].$.payload.a[*].$.payload.a[*].b",
        "payload.a[*].`parent`[*].`parent`[*].b",
        "$..$..b",
    ],
)
def test_an_expression_that_multiplies_matches_is_stopped(expression: str) -> None:
    message = {"event_type": "x", "payload": {"a": [{"b": n} for n in range(3_000)]}}
    with pytest.raises(ValueError, match=rf"more than ({MATCH_LIMIT} matches|20000 values)"):
        compile_expression(expression).all(message)


def test_a_filter_does_not_apply_its_regular_expression_to_a_text_beyond_its_limit() -> None:
    compiled = compile_expression('payload.a[?(@.b ~ "a*b")].c')
    assert compiled.first({"payload": {"a": [{"b": "a" * 4_095 + "b", "c": 5}]}}) == 5
    with pytest.raises(ValueError, match="a text of 5000 characters is too long"):
        compiled.first({"payload": {"a": [{"b": "a" * 5_000, "c": 5}]}})


def test_the_limit_is_for_each_evaluation_not_for_all() -> None:
    message = {"event_type": "x", "payload": {"a": [{"b": n} for n in range(9_000)]}}
    every, filtered = compile_expression("payload.a[*].b"), compile_expression("payload.a[?b > 8997].b")
    for _ in range(MATCH_LIMIT // 9_000):
        every.first(message)
        assert filtered.all(message) == [8_998, 8_999]
    assert len(every.all(message)) == 9_000


@pytest.mark.parametrize(
    ("expression", "text", "reason"),
    [
        (
            "payload.a.`sub(/a*b/, x)`",
            "a" * 5_000,
            "too long for the regular expression 'a\\*b', which is applied to at most 4096",
        ),
        ("payload.a.`sub(/^a/, x)`", "a" * 70_000, "too long for the regular expression"),
        ("payload.a.`sub(/a/, " + "x" * 1_000 + ")`", "a" * 4_096, f"more than {MAX_RESULT} characters"),
    ],
)
def test_a_text_that_is_too_long_for_a_regular_expression_is_rejected(expression: str, text: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        compile_expression(expression).first({"payload": {"a": text}})


@pytest.mark.parametrize(("regex", "by"), [("a", "b"), ("(a)(b)?", r"\2\1\g<0>"), ("a*", "-"), ("(?=(.*))", r"\1")])
def test_a_large_substitution_equals_that_of_python(regex: str, by: str) -> None:
    pattern = compile_pattern(regex)
    for text in ("", "ab", "aab" * 50, "aab" * 450):
        try:
            assert substitute(pattern, by, text) == pattern.sub(by, text)
        except ValueError:
            assert len(pattern.sub(by, text)) > MAX_RESULT / 2


# -- messages -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'[{"a":'])
def test_a_message_that_is_nested_too_deeply_is_bad(opening: bytes) -> None:
    for depth in (2_000, 100_000):
        with pytest.raises(BadMessage, match="not JSON"):
            unwrap(opening * depth)


def test_messages_of_any_depth_do_not_affect_others(open_site: OpenSite) -> None:
    site: Site = open_site()

    def nested(opening: str, closing: str, depth: int) -> str:
        return opening * depth + "1" + closing * depth

    messages: list[Any] = [notification("first", "something.happened")]
    for depth in (50, 200, 500, 900, 990, 1_000, 1_010, 1_020, 1_030, 5_000, 100_000):
        for number, (opening, closing) in enumerate((("[", "]"), ('{"a":', "}"))):
            deep = nested(opening, closing, depth)
            name = f"{depth}-{number}"
            event = json.dumps(notification(f"e-{name}", "image.upload", payload={"id": "i", "size": 1, "deep": "*"}))
            batch = json.dumps(polling(f"p-{name}", [polled(1.0), polled(2.0, resource_metadata={"deep": "*"})]))
            messages += [event.replace('"*"', deep).encode(), batch.replace('"*"', deep).encode()]
    messages.append(notification("last", "something.happened"))
    drop(site.settings.spool, "a.jsonl", messages)
    collected = collect(site)
    assert collected.messages == len(messages) == collected.landed + collected.dead_letters
    done = convert(site)
    assert done.notifications == collected.landed
    assert count(site, "events", "message_id IN ('first', 'last')") == 2
    assert done.samples >= 3 * 3 * 2
    assert done.samples + done.errors >= done.notifications - 2
    catalog(site)


def test_a_descent_over_a_large_message_ends_soon() -> None:
    wide = {"event_type": "x", "payload": {"a": list(range(200_000))}}
    begun = time.process_time()
    with pytest.raises(ValueError, match="visited more than 20000 values"):
        compile_expression("payload..b").first(wide)
    deep: Any = {}
    for _ in range(900):
        deep = {"a": deep, "b": 1}
    assert len(compile_expression("payload..b").all({"event_type": "x", "payload": deep})) == 900
    assert time.process_time() - begun < 30
