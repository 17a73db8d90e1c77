"""Setup: what `make demo` and `make test` download, unpack and take on a machine that has nothing of it yet.

Works in a fresh clone of this repository's HEAD, with empty caches, in a temporary folder. The parts:

- `downloads`: the Python packages of uv.lock, as uv selects them for this platform, and uv itself;
- `debian`: the Debian packages of the test servers and the browser, beyond those of a minimal system;
- `install`: the seconds until the Python packages are installed, and what the environment takes on the disk;
- `demo`: the seconds of `make demo`, once they are;
- `test`: the seconds of `make test`, once they are (needs twenty minutes; the servers' packages are installed if
  they are missing).

`--parts downloads,install` measures these and writes the results to `bench/setup.json`, with which a test compares the
figures in README. Without `--parts`, as in `make bench`, the first four are measured and only printed.
"""

import argparse
import json
import math
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import parse_wheel_filename

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "bench" / "setup.json"
PARTS = ("downloads", "debian", "install", "demo", "test")
MINIMAL = ("ca-certificates", "git", "make", "python3-venv")
"""What a Debian must have before `make demo`; its dependencies are not counted as a download either."""

SERVERS = (
    "import sys; sys.path.insert(0, sys.argv[1]); from servers import SERVERS; "
    "print(*(package for server in SERVERS.values() for package in server.packages))"
)
"""Prints the Debian packages of the test servers; its argument is their folder."""

MEGABYTE = 1_000_000


# -- what is to be downloaded ---------------------------------------------------------------------------------


def fresh_environment(**extra: str) -> dict[str, str]:
    """The environment without this one's Python, uv, make and Meterhouse."""
    ours = ("METERHOUSE_", "MAKE", "MFLAGS", "UV", "VIRTUAL_ENV", "PYTHON")
    kept = {name: content for name, content in os.environ.items() if not name.startswith(ours)}
    paths = [path for path in kept["PATH"].split(os.pathsep) if path != str(Path(sys.prefix) / "bin")]
    return {**kept, "PATH": os.pathsep.join(paths), **extra}


def sync_command(kind: str) -> list[str]:
    """The words of the command by which the Makefile installs a set of packages, `demo` or `dev`; the first is uv."""
    shown = subprocess.run(
        ["make", "--dry-run", "--always-make", f".venv/.synced-{kind}"],
        cwd=ROOT,
        env=fresh_environment(),
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    return next(line.split() for line in shown.splitlines() if " sync " in line)


def locked(kind: str, environment: Mapping[str, str]) -> set[str]:
    """The packages of uv.lock that a set consists of in an environment of markers, each as `name==version`.

    Raises:
        FileNotFoundError: uv is not there; any make command that needs packages gets it.
    """
    uv, _, *options = sync_command(kind)
    selection = [word for word in options if word not in ("--frozen", "--compile-bytecode", "--inexact")]
    export = [uv, "export", "--quiet", "--frozen", "--no-hashes", "--no-header", "--no-annotate", "--no-emit-project"]
    listed = subprocess.run([*export, *selection], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    found = [Requirement(line) for line in listed.splitlines()]
    return {
        f"{each.name}{each.specifier}"
        for each in found
        if each.marker is None or each.marker.evaluate(dict(environment))
    }


def sizes(packages: Iterable[str]) -> dict[str, int]:
    """The bytes of the wheels of these packages (`name==version`, or a name for its newest), by `name==version`.

    pip downloads each: uv.lock has no sizes where the index that it was made from tells none.
    """
    uv = sync_command("demo")[0]
    pip = [uv, "tool", "run", "--python", sys.executable, "pip", "download", "--quiet", "--no-deps"]
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([*pip, "--only-binary", ":all:", "--dest", folder, *packages], cwd=ROOT, check=True)
        found = {}
        for wheel in Path(folder).iterdir():
            name, version, _, _ = parse_wheel_filename(wheel.name)
            found[f"{name}=={version}"] = wheel.stat().st_size
    return found


def total(packages: Iterable[str], bytes_of: Mapping[str, int]) -> float:
    """Megabytes of these packages and of uv, which `make` downloads first.

    Raises:
        KeyError: the size of a package is not known; `python bench/setup.py --parts downloads` asks for it.
    """
    uv = next(size for name, size in bytes_of.items() if name.startswith("uv=="))
    return (uv + sum(bytes_of[package] for package in packages)) / MEGABYTE


def downloads(known: Mapping[str, int]) -> dict[str, Any]:
    """Megabytes of Python packages for `make demo`, and more for `make test`; with the size of every package.

    Args:
        known: sizes of earlier measurements; a release does not change, so these are not downloaded again.
    """
    of_the_kernel = ("platform_release", "platform_version")  # no package asks for these
    environment = {name: str(content) for name, content in default_environment().items() if name not in of_the_kernel}
    demo, test = (locked(kind, environment) for kind in ("demo", "dev"))
    bytes_of = {name: known[name] for name in demo | test if name in known}
    bytes_of |= sizes([*sorted((demo | test) - set(known)), "uv"])
    return {
        "demo_megabytes": total(demo, bytes_of),
        "test_more_megabytes": total(demo | test, bytes_of) - total(demo, bytes_of),
        "environment": environment,
        "bytes": dict(sorted(bytes_of.items())),
    }


def debian() -> dict[str, Any]:
    """Megabytes of Debian packages for `make test`, beyond a minimal system; whatever this machine has installed."""

    def needed(folder: str, names: Iterable[str]) -> dict[str, int]:
        nothing_there = [f"Dir::State::status={folder}/status", f"Dir::Cache::archives={folder}/archives"]
        options = [word for option in nothing_there for word in ("-o", option)]
        command = [
            "apt-get",
            "--yes",
            "--quiet",
            "--no-install-recommends",
            "--print-uris",
            *options,
            "install",
            *names,
        ]
        shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        fields = [line.split() for line in shown.splitlines() if line.startswith("'")]
        return {name: int(size) for _, name, size, *_ in fields}

    asked = [sys.executable, "-c", SERVERS, str(ROOT / "deploy" / "services")]
    packages = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.split()
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "status").touch()
        (Path(folder) / "archives" / "partial").mkdir(parents=True)
        there, wanted = needed(folder, MINIMAL), needed(folder, packages)
    return {"test_megabytes": sum(size for name, size in wanted.items() if name not in there) / MEGABYTE}


# -- what is done in the clone --------------------------------------------------------------------------------


class Clone:
    """A fresh clone in a folder, with caches of its own."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "meterhouse"
        self._environment = fresh_environment(
            UV_CACHE_DIR=str(folder / "uv"), PIP_CACHE_DIR=str(folder / "pip"), METERHOUSE_HOME=str(folder / "home")
        )
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(self.path)], check=True)

    def seconds(self, *arguments: str) -> float:
        """How long a make command takes.

        Raises:
            CalledProcessError: it failed.
        """
        clock = time.monotonic()
        subprocess.run(["make", *arguments], cwd=self.path, env=self._environment, stdout=sys.stderr, check=True)
        return time.monotonic() - clock

    def megabytes(self) -> float:
        """Size of the files in the clone's environment."""
        files = (path for path in (self.path / ".venv").rglob("*") if not path.is_symlink() and path.is_file())
        return sum(path.stat().st_size for path in files) / MEGABYTE


def install(clone: Clone) -> dict[str, Any]:
    """Seconds of the installation for `make demo`, what it takes on the disk, and how much more for `make test`."""
    demo_seconds, demo_megabytes = clone.seconds(".venv/.synced-demo"), clone.megabytes()
    return {
        "demo_seconds": demo_seconds,
        "demo_megabytes": demo_megabytes,
        "test_more_seconds": clone.seconds(".venv/.synced-dev"),
        "test_more_megabytes": clone.megabytes() - demo_megabytes,
    }


def demo(clone: Clone) -> dict[str, Any]:
    """Seconds of `make demo` without the installation."""
    clone.seconds(".venv/.synced-demo")
    return {"seconds": clone.seconds("demo", "ARGS=--exit --port 0")}


def test(clone: Clone) -> dict[str, Any]:
    """Seconds of `make test` without the installation of Python packages."""
    clone.seconds(".venv/.synced-dev")
    return {"seconds": clone.seconds("test")}


# -- what is written ------------------------------------------------------------------------------------------


def machine() -> dict[str, Any]:
    """When and on what a part is measured; `load` is of the last minute before it."""
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "cores": os.cpu_count(),
        "memory_gigabytes": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9),
        "load": round(os.getloadavg()[0], 1),
        "python": platform.python_version(),
    }


def figures(results: Mapping[str, Any]) -> Iterable[tuple[str, str, float]]:
    """Part, name and value of every figure."""
    for part, found in results.items():
        for name, content in found.items():
            if name.endswith(("seconds", "megabytes")):
                yield part, name, content


def stated(name: str, content: float) -> str:
    """A figure as README states it: a size with two significant digits, a time in whole minutes, rounded up."""
    if name.endswith("megabytes"):
        rounded = float(f"{content:.2g}")
        return f"{rounded:g} MB" if rounded < 1000 else f"{rounded / 1000:g} GB"
    minutes = math.ceil(content / 60)
    return "1 minute" if minutes == 1 else f"{minutes} minutes"


def parts(names: str) -> list[str]:
    """The parts that an argument names, in the order in which they are measured."""
    wanted = names.split(",")
    if unknown := set(wanted) - set(PARTS):
        raise argparse.ArgumentTypeError(f"no such part: {', '.join(sorted(unknown))}; parts: {', '.join(PARTS)}")
    return [part for part in PARTS if part in wanted]


def main() -> None:
    arguments = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    arguments.add_argument("--parts", type=parts, help=f"measure these, and write the results: {','.join(PARTS)}")
    given = arguments.parse_args()
    results = json.loads(RESULTS.read_text("utf-8")) if RESULTS.exists() else {}
    with tempfile.TemporaryDirectory() as folder:
        clone = Clone(Path(folder))
        measures: dict[str, Callable[[], dict[str, Any]]] = {
            "downloads": lambda: downloads(results.get("downloads", {}).get("bytes", {})),
            "debian": debian,
            "install": lambda: install(clone),
            "demo": lambda: demo(clone),
            "test": lambda: test(clone),
        }
        for part in given.parts or PARTS[:4]:
            before = machine()
            found = {
                name: round(each, 1) if isinstance(each, float) else each for name, each in measures[part]().items()
            }
            results[part] = {"measured": before, **found}
            for _, name, content in figures({part: found}):
                print(f"{part:12}{name:22}{content:8.0f}    {stated(name, content)}", flush=True)
            if given.parts:  # at once: a part that fails does not lose the earlier ones
                ordered = {part: results[part] for part in PARTS if part in results}
                RESULTS.write_text(json.dumps(ordered, indent=1) + "\n", "utf-8")


if __name__ == "__main__":
    main()
