"""Random definitions and messages: Meterhouse yields the same as a running Ceilometer 27.0.0.

What differs on purpose is in docs/ceilometer-differences.md. Run this file as a program for more than the test does:
`python tests/slow/test_against_running_ceilometer.py FIRST_SEED SECONDS`.
"""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bench"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from _ceilometer import Ceilometer, differing, packaged
from definition_fuzz import Generator

from meterhouse.conversion.convert import Converter
from meterhouse.definitions.loading import load_files
from meterhouse.errors import DefinitionError

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.slow

SECONDS = 75.0
MESSAGES = 20


@pytest.fixture(scope="module")
def ceilometer() -> Iterator[Ceilometer]:
    try:
        with Ceilometer(repeats_texts=False) as running:
            yield running
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"Ceilometer cannot be installed: {error}")


@dataclass
class Case:
    """Files of one kind of definitions, and messages."""

    kind: str  # samples or events
    files: list[list[Any]]  # the entries of each
    messages: list[dict[str, Any]]

    def difference(self, ceilometer: Ceilometer, folder: Path) -> str:
        """The differences between the results of Ceilometer and Meterhouse."""
        paths = []
        for number, entries in enumerate(self.files):
            paths.append(folder / f"{number}.yaml")
            data = {"metric": entries} if self.kind == "samples" else entries
            paths[-1].write_text(yaml.safe_dump(data, sort_keys=False), "utf-8")
        if self.kind == "samples":
            theirs = ceilometer.samples(self.messages, paths)
        else:
            theirs = ceilometer.events(self.messages, paths[0])
        try:
            if self.kind == "samples":
                definitions = load_files(paths, None, icehouse_names=False)
            else:
                definitions = load_files([], paths[0], icehouse_names=False)
        except DefinitionError as error:
            return "" if theirs["fatal"] else f"Ceilometer loads it; Meterhouse: {error}"
        if theirs["fatal"]:
            return "" if definitions.faults else f"Meterhouse loads it; Ceilometer: {theirs['fatal']}"
        loaded = len(definitions.meters.meters if self.kind == "samples" else definitions.events.definitions)
        if theirs["loaded"] != loaded:
            return f"Ceilometer loads {theirs['loaded']}, Meterhouse {loaded}: {[str(f) for f in definitions.faults]}"
        converter = Converter(definitions, versioned=False)
        make = converter.samples_line if self.kind == "samples" else converter.event_line
        for message, expected in zip(self.messages, theirs["lines"], strict=True):
            made = make(message)
            if self._shape(expected) != self._shape(made):
                return (
                    f"message    {json.dumps(message)}\n"
                    f"Ceilometer {json.dumps(expected)}\nMeterhouse {json.dumps(made)}"
                )
        return ""

    def _shape(self, line: dict[str, Any]) -> str:
        """The parts of a line that have to be equal: everything except the texts of errors and warnings."""
        if self.kind == "events":
            return json.dumps([line["event"], bool(line["error"])], sort_keys=True)
        # A volume that is neither a number nor a text: Ceilometer drops the whole message, Meterhouse only the sample.
        failed = {error["endpoint"] for error in line["errors"] if "error" in error}
        samples = sorted(json.dumps(sample, sort_keys=True) for sample in line["samples"])
        return json.dumps([samples, sorted(failed)])

    def smallest(self, ceilometer: Ceilometer, folder: Path) -> "Case":
        """The smallest case with the same difference."""
        case = self
        for message in self.messages:
            alone = Case(self.kind, self.files, [message])
            if alone.difference(ceilometer, folder):
                case = alone
                break
        smaller = True
        while smaller:
            smaller = False
            for candidate in case._lessened():
                if candidate.difference(ceilometer, folder):
                    case, smaller = candidate, True
                    break
        return case

    def _lessened(self) -> Iterator["Case"]:
        for path in _removable(self.files):
            files = json.loads(json.dumps(self.files))
            _remove(files, path)
            yield Case(self.kind, files, self.messages)
        if len(self.messages) == 1:
            for path in _removable([self.messages[0].get("payload")]):
                message = json.loads(json.dumps(self.messages[0]))
                _remove([message["payload"]], path)
                yield Case(self.kind, self.files, [message])


def _removable(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The paths of all values in lists and mappings, the outer ones first."""
    inner = (
        list(value.items()) if isinstance(value, dict) else list(enumerate(value)) if isinstance(value, list) else []
    )
    for key, _ in inner:
        if path or len(inner) > 1:
            yield (*path, key)
    for key, each in inner:
        yield from _removable(each, (*path, key))


def _remove(value: Any, path: tuple[Any, ...]) -> None:
    for key in path[:-1]:
        value = value[key]
    del value[path[-1]]


def cases(first_seed: int, real: list[dict[str, Any]]) -> Iterator[tuple[int, Case]]:
    """An endless sequence of cases, each with its seed."""
    seed = first_seed
    while True:
        generator = Generator(seed, real)
        messages = generator.messages(MESSAGES)
        files = [generator.meters()["metric"] for _ in range(1 + seed % 2)]
        yield seed, Case("samples", files, messages)
        yield seed, Case("events", [generator.events()], messages)
        seed += 1


def compare(ceilometer: Ceilometer, folder: Path, real: list[dict[str, Any]], first_seed: int, seconds: float) -> int:
    """The number of equal cases within a number of seconds.

    Raises:
        AssertionError: one is not.
    """
    equal, until = 0, time.monotonic() + seconds
    for seed, case in cases(first_seed, real):
        if time.monotonic() > until:
            break
        if case.difference(ceilometer, folder):
            least = case.smallest(ceilometer, folder)
            shown = yaml.safe_dump(least.files, sort_keys=False, allow_unicode=True)
            raise AssertionError(f"seed {seed}, {case.kind}:\n{shown}{least.difference(ceilometer, folder)}")
        equal += 1
    return equal


def real_messages(shared: Path) -> list[dict[str, Any]]:
    """The recorded notifications."""
    files = sorted((shared / "notifications").glob("*-*.jsonl"))
    return [json.loads(line) for path in files for line in path.read_text("utf-8").splitlines()]


def test_random_definitions_yield_what_ceilometer_yields(ceilometer: Ceilometer, shared: Path, tmp_path: Path) -> None:
    assert compare(ceilometer, tmp_path, real_messages(shared), 1, SECONDS) > 100


def test_the_runner_prints_the_recorded_lines(ceilometer: Ceilometer, shared: Path) -> None:
    assert ceilometer is not None
    found = differing(shared)
    assert {others for _, others in found.values()} == {0}
    assert sum(lines for lines, _ in found.values()) > 1300


def test_the_shipped_definitions_yield_what_ceilometer_yields(ceilometer: Ceilometer, shared: Path) -> None:
    """On mutated real messages, with all of Ceilometer's endpoints."""
    meters, events = packaged()
    converter = Converter(load_files([meters], events, icehouse_names=False), versioned=False)
    generator = Generator(1, real_messages(shared))
    generator.renames = False
    messages = generator.messages(4000)
    for kind, theirs, make in (
        ("samples", ceilometer.samples(messages), converter.samples_line),
        ("events", ceilometer.events(messages), converter.event_line),
    ):
        case = Case(kind, [], [])
        for message, expected in zip(messages, theirs["lines"], strict=True):
            assert case._shape(expected) == case._shape(make(message)), message


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made, Ceilometer(repeats_texts=False) as peer:
        known = real_messages(ROOT.parent / "shared" / "data")
        print(compare(peer, Path(made), known, int(sys.argv[1]), float(sys.argv[2])), "cases are equal")
