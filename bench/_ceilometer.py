"""Ceilometer 27.0.0 itself, from PyPI, in a virtual environment of its own: what it makes of messages, and how fast.

As a command it prints lines in the form of `expected_samples.jsonl` and `expected_events.jsonl`:

    python bench/_ceilometer.py samples messages.jsonl [meters.yaml ...]
    python bench/_ceilometer.py events messages.jsonl [event_definitions.yaml]

Without a definition file Ceilometer's packaged ones are used. Without arguments it is checked that this is what the
recorded lines of `shared/data` were made by.
"""

import json
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from _peers import ROOT, interpreter

VERSION = "27.0.0"
RECORDED = ROOT.parent / "shared" / "data"
INSIDE = Path(__file__).with_name("_ceilometer_inside.py")


def python() -> Path:
    """The interpreter of the virtual environment, which is made where there is none."""
    return interpreter("ceilometer", VERSION)


def packaged() -> tuple[Path, Path]:
    """The meters and the event definitions that Ceilometer brings."""
    (package,) = (python().parents[1] / "lib").glob("python*/site-packages/ceilometer")
    return package / "data" / "meters.d" / "meters.yaml", package / "pipeline" / "data" / "event_definitions.yaml"


class Ceilometer:
    """A running Ceilometer that is asked one thing after another; a context manager.

    Args:
        repeats_texts: whether `*` of a text or a list and a number repeats it, as it does in Ceilometer and never in
            Meterhouse; False for comparing all the rest.
    """

    def __init__(self, *, repeats_texts: bool = True) -> None:
        self._options = [] if repeats_texts else ["--multiply-numbers-only"]

    def __enter__(self) -> "Ceilometer":
        self._process = subprocess.Popen(
            [str(python()), "-I", "-W", "ignore", str(INSIDE), *self._options],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def samples(self, messages: Iterable[Mapping[str, Any]] | Path, meters: Sequence[Path] | None = None) -> Any:
        """What its sample endpoints make of messages: `loaded` meters, `fatal` (a text or null) and the `lines`.

        Args:
            messages: the notifications, or a file of them.
            meters: definition files, each as if in a folder of its own; None for the packaged one.
        """
        return self._ask("samples", messages, None if meters is None else [str(path) for path in meters])

    def events(self, messages: Iterable[Mapping[str, Any]] | Path, definitions: Path | None = None) -> Any:
        """What its event endpoint makes of messages, as `samples`."""
        return self._ask("events", messages, None if definitions is None else str(definitions))

    def rate(
        self, what: str, messages: Path, meters: Sequence[Path] | None = None, events: Path | None = None
    ) -> dict[str, float]:
        """How long `samples`, `events`, `both` or `polled` take: `messages`, what was `made`, and the seconds."""
        job = {"job": "rate", "what": what, "file": str(messages)}
        found: dict[str, float] = self._answer(
            {
                **job,
                "meters": None if meters is None else [str(path) for path in meters],
                "events": None if events is None else str(events),
            }
        )
        return found

    def parsed(self, texts: Sequence[str]) -> list[Any]:
        """The syntax trees of expressions as lists, None for those that are refused."""
        trees: list[Any] = self._answer({"job": "parse", "texts": list(texts)})
        return trees

    def _ask(self, job: str, messages: Iterable[Mapping[str, Any]] | Path, definitions: Any) -> Any:
        given = {"file": str(messages)} if isinstance(messages, Path) else {"messages": list(messages)}
        return self._answer({"job": job, "definitions": definitions, **given})

    def _answer(self, job: dict[str, Any]) -> Any:
        process = self._process
        if process.stdin is None or process.stdout is None:
            raise RuntimeError("Ceilometer is not running")
        process.stdin.write(json.dumps(job) + "\n")
        process.stdin.flush()
        answer = process.stdout.readline()
        if not answer:
            raise RuntimeError(f"Ceilometer ended with {process.wait()}")
        return json.loads(answer)


def differing(recorded: Path) -> dict[str, tuple[int, int]]:
    """Of each file of recorded lines: how many there are, and how many are not what Ceilometer makes now."""
    messages = {}
    for path in sorted((recorded / "notifications").glob("*-*.jsonl")):
        for line in path.read_text("utf-8").splitlines():
            message = json.loads(line)
            messages[message["message_id"]] = message
    counts = {}
    with Ceilometer() as ceilometer:
        for kind in ("samples", "events"):
            for name in (f"expected_{kind}.jsonl", f"expected_{kind}_versioned.jsonl"):
                expected = [json.loads(line) for line in (recorded / name).read_text("utf-8").splitlines()]
                ask = ceilometer.samples if kind == "samples" else ceilometer.events
                made = ask([messages[line["message_id"]] for line in expected])["lines"]
                counts[name] = len(expected), sum(a != b for a, b in zip(expected, made, strict=True))
    return counts


def main(kind: str = "", messages: str = "", *definitions: str) -> None:
    if kind not in ("samples", "events"):
        if not RECORDED.is_dir():
            sys.exit(f"there are no recorded lines at {RECORDED}")
        for name, (lines, others) in differing(RECORDED).items():
            print(f"{name:34}{lines:6,} lines, {others} of them otherwise")
        return
    with Ceilometer() as ceilometer:
        if kind == "samples":
            answer = ceilometer.samples(Path(messages), [Path(each) for each in definitions] or None)
        else:
            answer = ceilometer.events(Path(messages), Path(definitions[0]) if definitions else None)
    if answer["fatal"]:
        sys.exit(answer["fatal"])
    for line in answer["lines"]:
        print(json.dumps(line))


if __name__ == "__main__":
    main(*sys.argv[1:])
