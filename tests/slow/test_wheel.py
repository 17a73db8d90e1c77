"""The wheel, as a site installs it: it claims one name, and works in an empty environment without the extras."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from meterhouse.extras import EXTRAS

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
CSV = """timestamp,meter,resource_id,volume,type,unit,project_id
2026-11-20T10:00:00Z,cpu_util,web-01,42,gauge,%,shop
2026-11-20T10:05:00Z,cpu_util,web-01,48,gauge,%,shop
2026-11-20T10:10:00Z,cpu_util,web-01,-250,gauge,%,shop
2026-11-20T10:00:00Z,vcpus,web-01,4,gauge,vcpu,shop
"""


def uv() -> str:
    """`uv run`, by which `make test` runs, names itself."""
    found = os.environ.get("UV") or shutil.which("uv") or str(ROOT / ".tools" / "bin" / "uv")
    assert Path(found).exists(), "uv is not there: run `make test`"
    return found


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the source distribution, as PyPI's users get it."""
    folder = tmp_path_factory.mktemp("dist")
    subprocess.run([uv(), "build", "--quiet", "--out-dir", str(folder), str(ROOT)], check=True, timeout=300)
    (built,) = folder.glob("*.whl")
    return built


class Installed:
    """Meterhouse in an environment that has nothing else, run in a folder that has nothing else."""

    def __init__(self, folder: Path, wheel: Path) -> None:
        self.folder, self.bin = folder, folder / "environment" / "bin"
        python = self.bin / "python"
        subprocess.run([uv(), "venv", "--quiet", "--python", sys.executable, str(self.bin.parent)], check=True)
        install = [uv(), "pip", "install", "--quiet", "--python", str(python), str(wheel)]
        subprocess.run(install, check=True, timeout=600)

    def run(
        self, *command: str, stdin: str = "", status: int = 0, **settings: str
    ) -> "subprocess.CompletedProcess[str]":
        kept = {name: os.environ[name] for name in ("PATH", "LANG") if name in os.environ}
        environment = {**kept, "METERHOUSE_HOME": str(self.folder / "home"), **settings}
        program, *arguments = command
        done = subprocess.run(
            [str(self.bin / program), *arguments],
            input=stdin,
            env=environment,
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == status, done.stderr
        return done


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory, wheel: Path) -> Installed:
    return Installed(tmp_path_factory.mktemp("site"), wheel)


def test_the_wheel_claims_no_name_but_its_own(wheel: Path) -> None:
    names = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {name for name in names if not name.endswith(".dist-info")} == {"meterhouse"}


def test_the_wheel_holds_every_sql_and_yaml_file_that_the_package_reads(wheel: Path) -> None:
    held = set(zipfile.ZipFile(wheel).namelist())
    sql = {f"meterhouse/data/{path.relative_to(ROOT)}" for path in (ROOT / "sql").rglob("*.*") if path.suffix != ".pyc"}
    yaml = {str(path.relative_to(ROOT)) for path in (ROOT / "meterhouse").rglob("*.yaml")}
    assert sql | yaml | {"meterhouse/data/quality/rules.yaml", "meterhouse/py.typed"} <= held


def test_an_installed_site_converts_loads_rolls_up_and_reports(installed: Installed) -> None:
    message = (ROOT / "tests" / "data" / "notifications.jsonl").read_text().splitlines()[0]
    (converted,) = installed.run("meterhouse", "convert", "events", stdin=message).stdout.splitlines()
    assert json.loads(converted)["message_id"] == json.loads(message)["message_id"]
    (installed.folder / "samples.csv").write_text(CSV)
    loaded = json.loads(installed.run("meterhouse", "load", "samples.csv", "--json").stdout)
    assert (loaded["samples"], loaded["dead_letters"]) == (4, 0)
    rolled = json.loads(installed.run("meterhouse", "rollup", "--json").stdout)
    assert (rolled["points_judged"], rolled["excluded"]) == (4, 1)
    report = ("meterhouse", "report", "usage_by_project_and_day", "--day", "2026-11-20", "--json")
    (row,) = map(json.loads, installed.run(*report).stdout.splitlines())
    assert (row["project_id"], row["vcpu_hours"], row["excluded_points"]) == ("shop", 4, 1)
    by_module = ("python", "-m", "meterhouse", *report[1:])
    assert json.loads(installed.run(*by_module).stdout) == row


def test_an_installed_site_needs_none_of_the_extras(installed: Installed) -> None:
    probe = f"import importlib.util as u; print([m for m in {sorted(EXTRAS)} + ['pandas'] if u.find_spec(m)])"
    assert installed.run("python", "-c", probe).stdout.strip() == "[]"
    states = {
        row["part"]: row["state"]
        for row in map(json.loads, installed.run("meterhouse", "doctor", "--json").stdout.splitlines())
    }
    assert set(states.values()) <= {"ok", "well"}


def test_the_demonstration_says_that_an_installed_site_has_no_code_location(installed: Installed) -> None:
    said = installed.run("meterhouse", "demo", "--exit", status=1).stderr
    assert said.startswith("meterhouse: this installation has no Dagster code location. Run this in a checkout")
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize(
    ("settings", "extra"),
    [
        ({"METERHOUSE_WAREHOUSE_URL": "postgresql+psycopg://u@127.0.0.1:1/d"}, "postgres"),
        ({"METERHOUSE_LAKE_URL": "s3://bucket/lake", "METERHOUSE_S3_ENDPOINT": "http://127.0.0.1:1"}, "s3"),
        ({"METERHOUSE_STREAM_URL": "amqp://127.0.0.1:1/"}, "amqp"),
    ],
)
def test_a_missing_package_is_named_with_the_extra_that_installs_it(
    installed: Installed, settings: dict[str, str], extra: str
) -> None:
    said = installed.run("meterhouse", "collect", status=1, **settings).stderr
    assert said.splitlines()[-1].endswith(f"Run: pip install 'meterhouse[{extra}]'"), said


def test_every_extra_is_declared() -> None:
    import tomllib

    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert set(EXTRAS.values()) <= set(declared)
