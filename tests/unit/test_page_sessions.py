"""What runs the pages' examples: it sees every difference, and what pages leave out is bounded."""

import re
from pathlib import Path

import pytest
from examples import PAGES, differences, examples, run

GOOD = """\
```sh
export METERHOUSE_HOME=/var/lib/meterhouse
```

Save this as `rates.csv`:

```csv
meter,rate
cpu,3
memory,20
```

```console
$ cat rates.csv
meter,rate
cpu,3
memory,20
$ grep cpu rates.csv |
>   tr , ' '
cpu 3
$ printf 'id  at        volume  \\n7f  10:00:01      42\\n'
id  at  ...volume
7f  ...      42
$ seq 9
1
...
8
...
$ ls nowhere
ls: ...nowhere...
$ echo $?
2
$ true
$ cd "$TMPDIR" && echo "$METERHOUSE_HOME"
/srv/own
```
"""


def found(text: str, folder: Path) -> list[str]:
    """What differs in a page of this text."""
    page = folder / "page.md"
    page.write_text(text)
    (folder / "session").mkdir()
    return differences(run(examples(page), folder / "session", {"METERHOUSE_HOME": "/srv/own"}))


def test_a_page_that_shows_what_its_commands_print_has_no_difference(tmp_path: Path) -> None:
    assert found(GOOD, tmp_path) == []


@pytest.mark.parametrize(
    ("shown", "altered", "line"),
    [
        ("cpu 3\n$", "cpu 4\n$", 18),
        ("cpu 3\n$", "cpu 3\ncpu 3\n$", 18),
        ("cpu 3\n$", "$", 18),
        ("memory,20\n$ grep", "$ grep", 14),
        ("7f  ...      42", "7f  ...      43", 21),
        ("8\n...\n", "0\n...\n", 24),
        ("8\n...\n", "8\n", 24),
        ("$ true\n", "$ echo true\n", 33),
        ("$ true\n", "$ false\n", 33),
        ("$ echo $?\n2\n", "", 29),
        ("$ echo $?\n2\n", "$ echo $?\n1\n", 31),
        ("export", "false\nexport", 2),
        ("/srv/own", "/var/lib/meterhouse", 34),
    ],
)
def test_a_page_that_shows_anything_else_is_named_with_its_line(
    tmp_path: Path, shown: str, altered: str, line: int
) -> None:
    assert GOOD.count(shown) == 1
    (only,) = found(GOOD.replace(shown, altered), tmp_path)
    assert only.startswith(f"page.md:{line}: ")


def test_a_shell_that_ends_early_is_named_with_the_example(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match=r"page.md:33: the shell ended here"):
        found(GOOD.replace("$ true", "$ exit"), tmp_path)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("```console\n$ ls\n", "not closed"),
        ("- List:\n\n  ```console\n  $ ls\n  ```\n", "at the margin"),
        ("```console\nls\n```\n", "begins with"),
        ("<!-- not run: too long -->\n```console\n$ ls\n```\n", "only blocks of `sh`"),
        ("Like this:\n\n```yaml\nalarms: []\n```\n", "name of the file"),
    ],
)
def test_a_block_that_could_hide_an_example_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    page = tmp_path / "page.md"
    page.write_text(text)
    with pytest.raises(ValueError, match=reason):
        examples(page)


def test_few_blocks_are_left_out_and_none_with_a_command_of_meterhouse() -> None:
    left_out = [each for page in PAGES for each in examples(page) if each.not_run]
    assert len(left_out) <= 22
    assert [each.place for each in left_out if re.search(r"^meterhouse ", each.text, re.MULTILINE)] == []


def test_a_block_that_is_neither_run_nor_saved_shows_no_commands() -> None:
    others = [each for page in PAGES for each in examples(page) if not each.is_run and not each.not_run]
    assert {each.language for each in others} <= {"dockerfile", "fish", "ini", "sql", "text", "zsh"}
    assert [each.place for each in others if re.search(r"^[$>#%] ", each.text, re.MULTILINE)] == []
