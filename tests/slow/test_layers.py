"""The import layers in pyproject.toml: they hold, and `make lint` fails when an arrow is turned."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
PACKAGES = ("assets", "meterhouse", "quality", "sensors")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The packages and the contracts, to be broken."""
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def lint(folder: Path) -> "subprocess.CompletedProcess[str]":
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-cache"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)


def test_make_lint_checks_the_layers() -> None:
    recipe = (ROOT / "Makefile").read_text().partition("\nlint:")[2].partition("\n\n")[0]
    assert "lint-imports" in recipe


def test_no_arrow_points_up_and_there_is_no_circle(copy: Path) -> None:
    done = lint(copy)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("file", "line", "contract"),
    [
        ("meterhouse/stores/lake.py", "import meterhouse.collection.landing", "Each stage stands on those before it"),
        ("meterhouse/settings.py", "import meterhouse.site", "Each stage stands on those before it"),
        ("meterhouse/rollups/step.py", "import meterhouse.queries.statistics", "Each stage stands on those before it"),
        ("meterhouse/site.py", "import assets.resources", "Orchestrators stand on the domain"),
        ("quality/gate.py", "import assets.quality", "Orchestrators stand on the domain"),
        ("meterhouse/alarms/delivery/deliver.py", "import dagster", "The domain knows no orchestrator"),
        ("assets/event_days.py", "import definitions", "Nothing stands on the code location or on the DAGs"),
        ("meterhouse/stream/queues.py", "import meterhouse.stream.drain", "No circle within a package either"),
    ],
)
def test_an_arrow_that_is_turned_breaks_a_contract(copy: Path, file: str, line: str, contract: str) -> None:
    target = copy / file
    target.write_text(f"{target.read_text()}\n\ndef turned() -> None:\n    {line}\n")
    done = lint(copy)
    assert done.returncode == 1
    assert f"{contract} BROKEN" in done.stdout, done.stdout


def test_a_new_module_needs_a_layer(copy: Path) -> None:
    (copy / "meterhouse" / "somewhere.py").write_text('"""A module that has no place yet."""\n')
    done = lint(copy)
    assert done.returncode == 1
    assert "meterhouse.somewhere" in done.stdout
