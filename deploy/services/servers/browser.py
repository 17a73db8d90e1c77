"""A browser: Chromium or Chrome."""

from __future__ import annotations

from pathlib import Path

from programs import succeeds, which
from record import Folder, Service
from server import Server

BROWSER = "METERHOUSE_TEST_BROWSER"
PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


class Browser(Server):
    """A browser. Nothing runs in the background: each test starts it."""

    name = "browser"
    kind = "a browser"
    variables = (BROWSER,)
    packages = ("chromium",)

    def find(self) -> Path | None:
        return next((Path(path) for path in map(which, PROGRAMS) if path and _runs(path)), None)

    def start(self, folder: Folder, found: Path) -> None:
        folder.services[self.name] = Service({BROWSER: str(found)})

    def answers(self, env: dict[str, str]) -> bool:
        return _runs(env[BROWSER])


def _runs(program: str) -> bool:
    return succeeds([program, "--version"])
