"""Reads the examples of a page, and runs them as a reader would: top to bottom, in one shell, in one folder.

The blocks of a page:

- ```` ```console ````: a line `$ …` is a command, lines `> …` below it continue it. The lines up to the next command
  are what it prints, on stdout and stderr together; a command without such lines prints nothing. In a line, `...`
  stands for any characters; a line that is `...` alone, for any lines. Trailing spaces do not count. A command
  succeeds, unless the next one is `echo $?`, which shows its status.
- ```` ```sh ````: commands that succeed; what they print does not count. They are run unless the line above the block
  is a comment that says why not: `<!-- not run: needs systemd -->`. Only these blocks may have such a comment.
- ```` ```yaml ````, `csv`, `json`, `python`: a file to save. The line above the block ends with its name, as in
  "Save this as `alarms.yaml`:". It is written into the folder that the shell is in.
- Blocks of other languages are there to be read.

The shell starts in a folder that has what the project's folder has, in `.venv` the environment that runs the tests,
and in TMPDIR a place for temporary files. A page that needs a server sets its address, or a folder of the machine, by
`export METERHOUSE_…=…`. After the example that contains such an export, the runner sets the variable to its own value.
Nothing else of a page is replaced.
"""

import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]

FILES = ("yaml", "csv", "json", "python")
"""Languages of blocks that are files."""

_MARK = "\x1e"
"""Separates what one example prints from the next (ASCII's record separator)."""

_PATIENCE_S = 600


@dataclass(frozen=True)
class Example:
    """A part of a page.

    Attributes:
        page: where it is.
        line: the number of its first line, from 1.
        language: of its block.
        text: a command of a console block, or the whole of any other block.
        shown: the lines that the page shows below a command of a console block; None for other blocks.
        file: the name under which the page tells the reader to save it.
        not_run: why it is not run.
    """

    page: Path
    line: int
    language: str
    text: str
    shown: tuple[str, ...] | None = None
    file: str | None = None
    not_run: str | None = None

    @property
    def is_run(self) -> bool:
        """Whether a reader types it, or saves it."""
        return self.not_run is None and (self.language in ("console", "sh") or self.file is not None)

    @property
    def place(self) -> str:
        """The page and line, as an editor takes them."""
        return f"{self.page.name}:{self.line}"


def examples(page: Path) -> list[Example]:
    """The examples of a page, in order.

    Raises:
        ValueError: a block is indented or not closed, a console block does not begin with a command, a file has no
            name, or another block than one of `sh` is not to be run.
    """
    found: list[Example] = []
    lines = page.read_text("utf-8").splitlines()
    fences = [number for number, line in enumerate(lines) if line.startswith("```")]
    if len(fences) % 2:
        raise ValueError(f"{page}: a block is not closed")
    if indented := [number for number, line in enumerate(lines, 1) if re.match(r"[\s>]+(```|~~~)|~~~", line)]:
        raise ValueError(f"{page}:{indented[0]}: a block begins with ``` at the margin")
    for first, last in zip(fences[::2], fences[1::2], strict=True):
        language, block, number = lines[first].removeprefix("```"), lines[first + 1 : last], first + 2
        above = next((line for line in reversed(lines[:first]) if line.strip()), "")
        saved = re.search(r"\bas `([^`]+)`:$", above)
        reason = re.fullmatch(r"<!-- not run: (.+) -->", above)
        if reason and language != "sh":
            raise ValueError(f"{page}:{number}: only blocks of `sh` may be left out")
        if language in FILES and not saved:
            raise ValueError(f"{page}:{number}: the line above says the name of the file, as in: Save this as `NAME`:")
        if language == "console":
            found += _console(page, number, block)
            continue
        found.append(
            Example(
                page,
                number,
                language,
                text="".join(f"{line}\n" for line in block),
                file=saved[1] if saved and language in FILES else None,
                not_run=reason[1] if reason else None,
            )
        )
    return found


def _console(page: Path, number: int, block: list[str]) -> Iterator[Example]:
    starts = [place for place, line in enumerate(block) if line.startswith("$ ")]
    if not starts or starts[0]:
        raise ValueError(f"{page}:{number}: a console block begins with `$ ` and a command")
    for start, end in pairwise([*starts, len(block)]):
        rest = start + 1
        while rest < end and block[rest].startswith("> "):
            rest += 1
        text = "\n".join(line[2:] for line in block[start:rest])
        yield Example(page, number + start, "console", text, shown=tuple(block[rest:end]))


@dataclass(frozen=True)
class Result:
    """What an example did: its exit status, and what it printed on stdout and stderr."""

    status: int
    printed: str


def run(page: list[Example], folder: Path, own: Mapping[str, str]) -> list[tuple[Example, Result]]:
    """Run the examples of a page.

    Args:
        page: the examples; those that are not to be run are left out.
        folder: an empty folder for all that the session needs.
        own: variable → value that takes the place of the page's, once the page has exported it.

    Raises:
        AssertionError: the shell ended before the last example.
    """
    wanted = [example for example in page if example.is_run]
    script = folder / "session.sh"
    script.write_text("".join(_step(example, own) for example in wanted), "utf-8")
    for name in ("project", "home", "tmp"):
        (folder / name).mkdir()
    for path in ROOT.glob("[!.]*"):
        (folder / "project" / path.name).symlink_to(path)
    (folder / "project" / ".venv").symlink_to(sys.prefix)
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("METERHOUSE_")}
    environment = {
        **inherited,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(folder / "home"),
        "TMPDIR": str(folder / "tmp"),
    }
    with subprocess.Popen(
        ["bash", str(script)],
        cwd=folder / "project",
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as shell:
        try:
            printed, _ = shell.communicate(timeout=_PATIENCE_S)
        except BaseException:
            os.killpg(shell.pid, signal.SIGKILL)
            raise
    parts = printed.split(_MARK)
    results = [Result(int(status), text) for text, status in zip(parts[::2], parts[1::2], strict=False)]
    assert len(results) == len(wanted), f"{wanted[len(results)].place}: the shell ended here\n{parts[-1]}"
    return list(zip(wanted, results, strict=True))


def _step(example: Example, own: Mapping[str, str]) -> str:
    """The lines of the session for an example: what the reader does, then what the runner needs."""
    text = example.text
    if example.file:
        text = f"cat > {shlex.quote(example.file)} <<'{_MARK}'\n{text}{_MARK}"
    elif example.language == "sh":  # every command has to succeed, not only the last
        text = f"__failed=0; trap '__failed=$?' ERR\n{text}trap - ERR; (exit $__failed)"
    exported = (name for name in own if re.search(rf"^export\b.*\b{name}=", example.text, re.MULTILINE))
    replaced = (f"export {name}={shlex.quote(own[name])}" for name in exported)
    return "\n".join([text, "__status=$?", *replaced, f"printf '{_MARK}%s{_MARK}' $__status; (exit $__status)\n"])


def differences(results: list[tuple[Example, Result]]) -> list[str]:
    """What a page does not show as it is, a text for each example."""
    found = []
    for (example, result), (following, _) in pairwise([*results, *results[-1:]]):
        status_is_shown = following is not example and following.text == "echo $?"
        if result.status and not status_is_shown:
            found.append(f"{example.place}: status {result.status}: {example.text}\n{result.printed}")
        elif example.shown is not None and not fits(example.shown, result.printed):
            shown = "".join(f"{line}\n" for line in example.shown)
            found.append(f"{example.place}: $ {example.text}\n--- shown\n{shown}--- printed\n{result.printed}")
    return found


def fits(shown: tuple[str, ...], printed: str) -> bool:
    """Whether a command has printed what a page shows, up to what `...` stands for."""
    lines = (r"(?:.*\n)*?" if line.strip() == "..." else _pattern(line) + r"\n" for line in shown)
    text = "".join(f"{line.rstrip()}\n" for line in printed.splitlines())
    return re.fullmatch("".join(lines), text) is not None


def _pattern(line: str) -> str:
    return ".*".join(map(re.escape, line.rstrip().split("...")))
