"""Quality rules: what a file may say, and that whatever passes can judge."""

import math
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml
from builders import point
from hypothesis import given, settings
from hypothesis import strategies as st

from meterhouse.definitions import quality_rules
from meterhouse.definitions.quality_rules import CHECKS, SEVERITIES, TYPES
from meterhouse.errors import DefinitionError
from meterhouse.sample_quality.judge import judge
from meterhouse.stores.duck import connect
from meterhouse.stores.lake_tables import SAMPLES

RULE = {"name": "x", "bit": 5, "check": "range", "severity": "critical", "min": 0}


def write(folder: Path, *rules: Any) -> None:
    (folder / "quality.yaml").write_text(yaml.safe_dump({"rules": list(rules)}))


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"min": 10**400}, "min is 1000.*Write a number"),
        ({"max": math.nan}, "max is nan"),
        ({"max": "1"}, "max is '1'"),
        ({"max": True}, "max is True"),
        ({"min": math.inf}, "no volume is within min and max"),
        ({"min": -math.inf, "max": -math.inf}, "no volume is within min and max"),
        ({"tolerance_seconds": 1e300}, "tolerance_seconds is 1e\\+300. Write a number from 0 to 31,622,400"),
        ({"tolerance_seconds": math.inf}, "tolerance_seconds is inf"),
        ({"tolerance_seconds": -1}, "tolerance_seconds is -1"),
        ({"bit": 10**30}, "bit is 1000"),
        ({"bit": True}, "bit is True"),
        ({"bit": 5.0}, "bit is 5.0"),
        ({"name": "n" * 256}, "a rule has the name 'nnn"),
        ({"name": "n\x1b"}, "a rule has the name"),
        ({"description": None}, "description is None"),
        ({"meters": ["m\0"]}, "meters is not a list of at most 1,000 globs"),
        ({"meters": ["m"] * 1001}, "meters is not a list of at most 1,000 globs"),
        ({True: 1}, "unknown keys: True"),
        ({True: 1, "y": 2}, "unknown keys: True, y"),
    ],
)
def test_every_value_of_a_rule_is_bounded(tmp_path: Path, more: dict[Any, Any], said: str) -> None:
    write(tmp_path, {**RULE, **more})
    with pytest.raises(DefinitionError, match=said) as caught:
        quality_rules.load(tmp_path)
    assert f"{tmp_path}/quality.yaml:2" in str(caught.value)
    assert len(str(caught.value)) < 500


JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from([10**400, "*", "'"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
PLAUSIBLE = st.fixed_dictionaries(
    {
        "name": st.text(min_size=1, max_size=5),
        "bit": st.integers(0, 30),
        "check": st.sampled_from(CHECKS),
        "severity": st.sampled_from(SEVERITIES),
    },
    optional={
        "min": st.floats(allow_nan=False),
        "max": st.floats(allow_nan=False),
        "tolerance_seconds": st.floats() | st.integers(),
        "meters": st.lists(st.text(max_size=5), max_size=3),
        "types": st.lists(st.sampled_from(TYPES), max_size=3),
        "description": JUNK,
    },
)
MIXED = st.builds(lambda rule, more: {**rule, **more}, PLAUSIBLE, st.dictionaries(st.sampled_from([*RULE, "x"]), JUNK))


@settings(max_examples=40, deadline=None)
@given(st.lists(PLAUSIBLE | MIXED | JUNK, max_size=3))
def test_garbage_is_one_error_or_rules_that_can_judge(
    tmp_path_factory: pytest.TempPathFactory, junk: list[Any]
) -> None:
    folder = tmp_path_factory.mktemp("garbage")
    write(folder, *junk)
    with suppress(DefinitionError):
        rules = quality_rules.load(folder)
        with connect() as duck:
            duck.register("points", pa.Table.from_pylist([point(1.0), point(math.nan)], schema=SAMPLES))
            duck.execute("CREATE TEMP TABLE carried (series_id BIGINT, timestamp TIMESTAMPTZ, volume DOUBLE)")
            judge(duck, rules, 48)
