"""The documentation: the reference matches the code, every name has an entry, links resolve, commands exist, and
README's figures are the measured ones.

Names are looked up in the pages, whatever wrote them.
"""

import html
import importlib.util
import json
import re
import shlex
import struct
import subprocess
import sys
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import pytest
import yaml
from examples import PAGES, ROOT, examples

from meterhouse import settings
from meterhouse.alarms.definitions.alarm import TYPES
from meterhouse.cli import cli
from meterhouse.definitions.endpoints import ENDPOINTS
from meterhouse.errors import UsageError
from meterhouse.queries import reports
from meterhouse.stores import lake_tables as schema
from meterhouse.stores.warehouse_tables import metadata

DOCS = ROOT / "docs"


def script(path: Path) -> ModuleType:
    """The module of a script that belongs to no package."""
    specification = importlib.util.spec_from_file_location(path.stem, path)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def reference(name: str) -> str:
    return (DOCS / "reference" / f"{name}.md").read_text("utf-8")


def first_cells(page: str) -> set[str]:
    """The code in the first cell of a table's row, or the text of a link there."""
    cells = (line.split("|")[1].strip() for line in page.splitlines() if line.startswith("|"))
    return {found[1] for cell in cells if (found := re.match(r"\[?`(.+?)`", cell))}


def headings(page: str) -> list[str]:
    inside = False
    found = []
    for line in page.splitlines():
        inside ^= line.startswith("```")
        if not inside and (heading := re.match(r"#+ (.*)", line)):
            found.append(heading[1])
    return found


def anchors(page: str) -> set[str]:
    """Anchors as GitHub and MkDocs make them from plain headings."""
    return {re.sub(r"\s", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower()) for heading in headings(page)}


# -- the reference ------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_reference_matches_the_code() -> None:
    done = subprocess.run(
        [sys.executable, str(DOCS / "generate.py"), "--check"], capture_output=True, text=True, cwd="/", timeout=120
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_the_reference_does_not_depend_on_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"HOME": "/nowhere", "CONFIG_DIR": "/nowhere", "PARTITIONS_FROM": "never"}.items():
        monkeypatch.setenv(f"METERHOUSE_{name}", value)
    monkeypatch.setenv("COLUMNS", "40")
    test_the_reference_matches_the_code()


def test_every_page_of_the_reference_is_in_the_navigation_of_the_site() -> None:
    listed = (ROOT / "mkdocs.yml").read_text("utf-8")
    assert [path for path in DOCS.rglob("*.md") if str(path.relative_to(DOCS)) not in listed] == []


def test_every_setting_has_its_entry() -> None:
    wanted = set(map(settings.variable, settings.declarations()))
    assert wanted <= first_cells(reference("settings"))
    assert all(each.description for each in settings.declarations().values())


def commands(group: click.Group, path: str = "meterhouse") -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield f"{path} {name}", command
        if isinstance(command, click.Group):
            yield from commands(command, f"{path} {name}")


def test_every_command_has_its_entry_with_all_its_options() -> None:
    page = reference("commands")
    for path, command in commands(cli):
        assert path in headings(page)
        section = re.split(r"^##", page.partition(f" {path}\n")[2], flags=re.MULTILINE)[0]
        for parameter in command.params:
            shown = parameter.opts[-1] if isinstance(parameter, click.Option) else parameter.make_metavar(_context())
            assert shown.strip("[]") in section, f"{path}: {shown}"


def _context() -> click.Context:
    return click.Context(cli)


def rows(page: str) -> list[list[str]]:
    """The cells of the tables' rows, as text without code marks; what cannot be shown as plain code is unescaped."""
    lines = [line for line in page.splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    return [[html.unescape(re.sub(r"</?code>|`", "", cell)) for cell in row] for row in cells]


def test_every_shipped_meter_has_its_entry_with_a_description() -> None:
    shown = {(row[0], row[1]): row[4] for row in rows(reference("meters")) if len(row) == 5}
    defaults = ROOT / "meterhouse" / "defaults"
    for path in [*(defaults / "meters.d").glob("*.yaml"), defaults / "icehouse_meters.yaml"]:
        for meter in yaml.safe_load(path.read_text("utf-8"))["metric"]:
            assert len(shown.get((meter["name"], meter["type"]), "")) > 10, f"{path.name}: {meter['name']}"
    assert {endpoint.name for endpoint in ENDPOINTS} <= {name for name, _ in shown}


def test_every_polled_meter_has_its_entry_with_a_description() -> None:
    shown = {row[0]: row for row in rows(reference("meters")) if len(row) == 4}
    for meters in yaml.safe_load((ROOT / "meterhouse" / "defaults" / "polled_meters.yaml").read_text("utf-8")).values():
        for name, kind, unit, _ in meters:
            assert shown[name][1:3] == [kind, unit or "none"]
            assert len(shown[name][3]) > 10


def test_every_shipped_event_definition_has_its_entry_with_all_traits_and_a_description() -> None:
    shown = {row[0]: row for row in rows(reference("events")) if len(row) == 3}
    for entry in yaml.safe_load((ROOT / "meterhouse" / "defaults" / "event_definitions.yaml").read_text("utf-8")):
        types = entry["event_type"] if isinstance(entry["event_type"], list) else [entry["event_type"]]
        assert ", ".join(types) in shown, types
        _, description, traits = shown[", ".join(types)]
        assert len(description) > 10, types
        assert {trait.split(" ")[0] for trait in traits.split(", ")} == set(entry["traits"]), types


def test_a_definition_without_a_description_is_rejected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "meters.d").mkdir()
    (tmp_path / "meters.d" / "box.yaml").write_text(
        "# Boxes.\n\nmetric:\n"
        "  - {name: box, event_type: box, type: gauge, unit: box, volume: 1, resource_id: $.payload.id}\n"
    )
    (tmp_path / "event_definitions.yaml").write_text("# -- Boxes\n- event_type: box\n  traits: {id: payload.id}\n")
    generate = script(DOCS / "generate.py")
    monkeypatch.setattr(generate, "DEFAULTS", tmp_path)
    for page in (generate.meters_page, generate.events_page):
        with pytest.raises(ValueError, match="the entry has no description"):
            page()


def test_every_shipped_rule_has_its_entry() -> None:
    rules = yaml.safe_load((ROOT / "quality" / "rules.yaml").read_text("utf-8"))["rules"]
    assert {rule["name"] for rule in rules} <= first_cells(reference("rules"))
    assert all(rule["description"] in reference("rules") for rule in rules)


def test_every_alarm_type_has_its_entry() -> None:
    assert set(TYPES) <= first_cells(reference("alarms"))


def test_every_table_has_its_entry_with_all_its_columns() -> None:
    page = reference("tables")
    lake = {f"Lake: {name}": columns.names for name, (columns, _) in schema.TABLES.items()}
    warehouse = {f"Warehouse: {name}": each.columns.keys() for name, each in metadata.tables.items()}
    for heading, columns in {**lake, **warehouse}.items():
        assert heading in headings(page)
        section = re.split(r"^##", page.partition(f" {heading}\n")[2], flags=re.MULTILINE)[0]
        assert first_cells(section) == set(columns), heading


def test_every_report_has_its_entry_with_its_question() -> None:
    for name in reports.names():
        assert name in first_cells(reference("reports"))
        assert reports.question(name) in reference("reports")


@pytest.fixture(scope="module")
def dagster_names() -> Iterator[dict[str, set[str]]]:
    """The names of everything in the code location."""
    settings.settings.cache_clear()
    with warnings.catch_warnings():
        import dagster as dg

        warnings.simplefilter("ignore", dg.BetaWarning)  # of backfill policies
        warnings.filterwarnings("ignore", "Parameter `partitions_def` of function `define_asset_job`")
        from definitions import defs

        graph = defs.resolve_asset_graph()
    yield {
        "assets": {key.to_user_string() for key in graph.get_all_asset_keys()},
        "checks": {key.name for key in graph.asset_check_keys},
        "jobs": {job.name for job in defs.jobs or ()},
        "sensors": {sensor.name for sensor in defs.sensors or ()},
        "schedules": {schedule.name for schedule in defs.schedules or ()},
    }
    settings.settings.cache_clear()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["assets", "checks", "jobs", "sensors", "schedules"])
def test_everything_in_dagster_has_its_entry(dagster_names: dict[str, set[str]], kind: str) -> None:
    assert dagster_names[kind]
    assert dagster_names[kind] <= first_cells(reference("assets"))


@pytest.mark.slow
def test_the_operator_guide_says_what_each_sensor_and_schedule_starts(dagster_names: dict[str, set[str]]) -> None:
    guide = (DOCS / "operator-guide.md").read_text("utf-8")
    named = dagster_names["sensors"] | dagster_names["schedules"] | dagster_names["jobs"]
    assert {name for name in named if f"`{name}`" not in guide} == set()


# -- links --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(path.read_text("utf-8"))):
        if target.startswith(("http://", "https://")):
            continue
        file, _, anchor = target.partition("#")
        page = (path.parent / file).resolve() if file else path
        assert page.exists(), f"{target} is not there"
        if anchor:
            assert anchor in anchors(page.read_text("utf-8")), f"{target}: no such heading"


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_page_names_a_folder_of_the_machine_it_was_written_on(path: Path) -> None:
    assert not re.search(r"(?<![\w.])/(work|root|home/\w)", path.read_text("utf-8"))


def test_the_layout_in_contributing_is_that_of_the_repository() -> None:
    tree = (ROOT / "CONTRIBUTING.md").read_text("utf-8").partition("## Layout\n\n```text\n")[2].partition("```")[0]
    listed = set()
    for line in tree.splitlines():
        folder = ROOT / "meterhouse" if line.startswith("  ") else ROOT
        for name in re.split(r"  +", line.strip())[0].split(", "):
            assert (folder / name).exists(), name
            listed.add(folder / name)
    assert {path.parent for path in (ROOT / "meterhouse").glob("*/__init__.py")} <= listed
    kept = {path for path in ROOT.iterdir() if path.is_dir() and any(path.glob("*.py"))}
    assert kept - {ROOT / name for name in ("build", "dist", "site")} <= listed


# -- commands -----------------------------------------------------------------------------------------------


def prose(page: str) -> str:
    """A page without its blocks of code."""
    return re.sub(r"```.*?```", "", page, flags=re.DOTALL)


def commands_in(text: str) -> Iterator[list[str]]:
    """Every `meterhouse …` of a shell command, as words."""
    lexer = shlex.shlex(text, posix=True, punctuation_chars="|<>;&")
    lexer.whitespace_split = True
    words = list(lexer)
    while "meterhouse" in words:
        words = words[words.index("meterhouse") + 1 :]
        yield words[: next((n for n, word in enumerate(words) if set(word) <= set("|<>;&")), len(words))]


def cases(commands: Iterable[tuple[Path, str]]) -> list[Any]:
    return [
        pytest.param(words, id=f"{path.stem}: {' '.join(words)[:60]}")
        for path, text in commands
        for words in commands_in(text)
    ]


SHOWN = cases((path, each.text) for path in PAGES for each in examples(path) if each.language == "console")
NAMED = cases(
    (path, span)
    for path in PAGES
    if path.parent.name != "reference"  # which has placeholders, such as NAME
    for span in re.findall(r"`((?:[A-Z_]+=\S+ )*meterhouse [^`]+)`", prose(path.read_text("utf-8")))
)


def test_the_guides_show_every_command_except_the_demo() -> None:
    shown = {case.values[0][0] for case in SHOWN}
    assert set(cli.list_commands(_context())) - shown == {"demo"}


@pytest.mark.parametrize("words", [*SHOWN, *NAMED])
def test_a_command_that_is_shown_exists_with_its_options(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my-meters.yaml").touch()
    command: click.Command = cli
    context = None
    while True:
        try:
            context = command.make_context(command.name or "meterhouse", list(words), parent=context)
        except click.exceptions.Exit:  # --version, --help
            return
        except (click.MissingParameter, click.BadOptionUsage):  # the text names the command without its arguments
            return
        except UsageError:  # the text shows what is said of a value that cannot be used
            return
        if not isinstance(command, click.Group):
            return
        _, found, words = command.resolve_command(context, [*context._protected_args, *context.args])
        assert found is not None
        command = found


# -- figures and pictures -----------------------------------------------------------------------------------


README = (ROOT / "README.md").read_text("utf-8")
SETUP = script(ROOT / "bench" / "setup.py")
MEASURED = json.loads((ROOT / "bench" / "setup.json").read_text("utf-8"))
STATED_IN_ROW = {
    "make demo": ("demo seconds", "install demo_seconds", "downloads demo_megabytes", "install demo_megabytes"),
    "make test": (
        "test seconds",
        "install test_more_seconds",
        "downloads test_more_megabytes",
        "install test_more_megabytes",
        "debian test_megabytes",
    ),
}
UNITS = "[kKMGT]i?B|bytes?|ms|s|seconds?|min|minutes?|h|hours?"


def figures(page: str) -> list[str]:
    """The sizes and times in prose and tables, outside of code, in order."""
    prose = re.sub(r"```.*?```|`[^`]*`", "", page, flags=re.DOTALL)
    return [" ".join(found) for found in re.findall(rf"(?<![\w.])(\d[\d.,]*)[\s-]?({UNITS})(?!\w)", prose)]


def row(page: str, command: str) -> str:
    """The row of README's table that has a command in its first cell."""
    return next(line for line in page.splitlines() if line.startswith(f"| `{command}` |"))


def stated() -> dict[str, str]:
    """What README has to say, by part and name of the figure."""
    return {f"{part} {name}": SETUP.stated(name, content) for part, name, content in SETUP.figures(MEASURED)}


def without_a_source(page: str) -> Counter[str]:
    """Figures of README outside its table that `bench/setup.py` has not measured.

    Raises:
        AssertionError: a row of the table has one that is not measured, or lacks one that is.
    """
    left = Counter(figures(page))
    for command, names in STATED_IN_ROW.items():
        wrong = Counter(figures(row(page, command)))
        wrong.subtract(stated()[name] for name in names if name in stated())
        assert not +wrong, f"{command}: not measured: {+wrong}"
        assert not -wrong, f"{command}: measured, but not stated: {-wrong}"
        left.subtract(figures(row(page, command)))
    return +left


def test_every_size_and_time_in_the_readme_was_measured_by_the_script_that_it_names() -> None:
    assert without_a_source(README) == Counter()
    assert "`bench/setup.py`" in README
    cores = {MEASURED[part]["measured"]["cores"] for part in ("install", "demo", "test") if part in MEASURED}
    assert all(f"on {number} cores" in README for number in cores)


@pytest.mark.parametrize("command", STATED_IN_ROW)
def test_a_figure_that_is_changed_in_the_readme_is_seen(command: str) -> None:
    for figure in figures(row(README, command)):
        number, unit = figure.split(" ")
        changed = row(README, command).replace(f"{number} {unit}", f"{number}1 {unit}", 1)
        with pytest.raises(AssertionError, match="not measured"):
            without_a_source(README.replace(row(README, command), changed))


@pytest.mark.parametrize("figure", ["7 MB", "1.5 GB", "90 s", "3-minute", "40 seconds"])
def test_a_new_figure_in_the_readme_is_seen(figure: str) -> None:
    assert sum(without_a_source(f"{README}\nIt needs {figure} of yours.\n").values()) == 1


@pytest.mark.parametrize(
    ("name", "content", "shown"),
    [
        ("megabytes", 307.4, "310 MB"),
        ("megabytes", 95.2, "95 MB"),
        ("megabytes", 996.0, "1 GB"),
        ("demo_megabytes", 1234.0, "1.2 GB"),
        ("seconds", 12.0, "1 minute"),
        ("seconds", 60.0, "1 minute"),
        ("seconds", 60.5, "2 minutes"),
    ],
)
def test_sizes_are_stated_with_two_digits_and_times_in_whole_minutes(name: str, content: float, shown: str) -> None:
    assert SETUP.stated(name, content) == shown


def test_the_readme_states_the_downloads_of_the_lock_file() -> None:
    found = MEASURED["downloads"]
    demo, test = (SETUP.locked(kind, found["environment"]) for kind in ("demo", "dev"))
    assert (demo | test) - set(found["bytes"]) == set(), "run `python bench/setup.py --parts downloads`"
    for_demo = SETUP.total(demo, found["bytes"])
    for pattern, megabytes in (
        (r"(\d+) MB of Python packages", for_demo),
        (r"(\d+) MB more", SETUP.total(demo | test, found["bytes"]) - for_demo),
    ):
        shown = re.findall(pattern, README)
        assert len(shown) == 1, pattern
        assert float(shown[0]) == pytest.approx(megabytes, rel=0.05)


@pytest.mark.parametrize("name", ["lineage", "report"])
def test_the_pictures_are_there_and_light(name: str) -> None:
    content = (DOCS / "images" / f"{name}.png").read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    assert 1500 < struct.unpack(">I", content[16:20])[0] < 1900
    assert len(content) < 300_000
    assert f"docs/images/{name}.png" in README


LAST_SECTION = (DOCS / "high-availability.md").read_text("utf-8").partition("## What happens when each part dies")[2]
SHOWN_BY = {
    "the machine that leads": "test_another_machine_takes_over_from_a_leader_that_is_killed_or_paused_and_no_run_is",
    "nothing: the leader is paused": "test_of_runs_that_daemons_create_for_one_reason_one_comes_into_the_queue",
    "the network between the leader": "test_a_leader_that_does_not_reach_the_warehouse_ends_its_program",
    "the process of a run": "test_runs_whose_processes_were_killed_end_as_failed_and_their_steps_run_again",
    "a process that collects": "test_a_killed_consumer_loses_and_duplicates_nothing",
    "a process that judges": "test_a_kill_changes_nothing",
    "nothing: a process that holds a lease": "test_a_pause_longer_than_the_lease_changes_nothing",
    "a process that evaluates": "test_a_cycle_that_is_killed_keeps_each_transition_once_and_tells_it",
    "a process that delivers": "test_deliverers_that_are_killed_lose_nothing",
    "a receiver": "test_a_receiver_that_is_down_for_an_hour_gets_everything_afterwards",
    "a process of the API": "test_nothing_that_was_answered_is_lost_and_nothing_counts_twice",
    "a member that polls": "test_when_a_member_is_killed_the_others_poll_in_its_place",
    "a Dask worker": "test_a_worker_that_is_lost_in_the_middle_changes_nothing_but_time",
    "the warehouse": "test_an_unavailable_warehouse_does_not_hold_up_landing",
    "the lake cannot be written": "test_samples_are_kept_while_the_lake_cannot_be_written_and_nothing_more_is_claimed",
    "the disk of the lake": "test_a_full_disk_is_waited_for_and_nothing_is_lost",
    "RabbitMQ": "test_a_broker_killed_under_load_loses_and_duplicates_nothing",
    "Keystone": "test_while_keystone_is_away_only_kept_tokens_work",
}
"""How a row of the page begins → the test that shows it."""


def test_each_row_of_what_happens_when_a_part_dies_is_shown_by_a_test() -> None:
    dies = [line.split("|")[1].strip() for line in LAST_SECTION.splitlines() if line.startswith("| ")][1:]
    assert [next((start for start in SHOWN_BY if row.startswith(start)), row) for row in dies] == list(SHOWN_BY)
    tests = "".join(path.read_text("utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    assert [name for name in SHOWN_BY.values() if f"def {name}" not in tests] == []
