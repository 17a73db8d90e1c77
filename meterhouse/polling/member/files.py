"""The files that say what is polled, read again when they change."""

import logging
import time
from collections.abc import Mapping
from typing import Final

from meterhouse.errors import MeterhouseError
from meterhouse.polling.asking import Asking
from meterhouse.polling.definitions import Polling, keep, load
from meterhouse.polling.member.clocks import Clock
from meterhouse.polling.pollster import Scheduled
from meterhouse.settings import Settings

LOOK_SECONDS: Final = 5.0
"""How often the files are looked at."""

log = logging.getLogger(__name__)

_State = frozenset[tuple[str, int, int]]


class Files:
    """What a member polls, and what it asks with.

    Args:
        settings: with the configuration folder.
        namespaces: of the member.
        clock: what time it is.

    Attributes:
        schedules: by source and pollster.
        asking: what to ask with.
        digest: of all definitions.

    Raises:
        MeterhouseError: the files cannot be used.
    """

    def __init__(self, settings: Settings, namespaces: frozenset[str], clock: Clock) -> None:
        self._settings, self._namespaces, self._clock = settings, namespaces, clock
        self.schedules: Mapping[tuple[str, str], Scheduled] = {}
        self.digest = ""
        self._polling: Polling | None = None
        self._state = self._look()
        self._looked_at = time.monotonic()
        self.asking = self._read()

    def changed(self) -> bool:
        """Read the files again if they have changed; return whether something else is polled now, or otherwise.

        If they cannot be used, what was read before stays, and a warning is logged. So does what was read before of
        entries that have a fault now.
        """
        if time.monotonic() - self._looked_at < LOOK_SECONDS:
            return False
        self._looked_at = time.monotonic()
        state = self._look()
        if state == self._state:
            return False
        self._state = state
        try:
            self.asking = self._read()
        except MeterhouseError as error:
            log.warning("what is polled stays as it was: %s", error)
            return False
        log.info("the definitions have changed: %d pollsters of sources are polled", len(self.schedules))
        return True

    def doubtful(self, source: str, pollster: str) -> bool:
        """Whether a pollster of a source may be in the files, but for a fault; see `Polling.doubtful`."""
        return self._polling is not None and self._polling.doubtful(source, pollster)

    def _read(self) -> Asking:
        polling = load(self._settings.config_dir)
        for fault in polling.faults:
            log.warning("%s", fault)
        if self._polling is not None:
            polling = keep(self._polling, polling)
        for kept in polling.kept:
            log.warning("%s is polled as it was before, until its fault is mended", kept)
        schedules = polling.schedules(self._namespaces)
        asking = Asking(self._settings, clock=self._clock.now)
        self.schedules = {(each.source.name, each.pollster.name): each for each in schedules}
        self.digest = polling.digest
        self._polling = polling
        return asking

    def _look(self) -> _State:
        """Names, sizes and times of the YAML files."""
        folder = self._settings.config_dir
        found = set()
        for path in folder.rglob("*.yaml") if folder is not None else ():
            try:
                now = path.stat()
            except OSError:  # deleted just now
                continue
            found.add((str(path), now.st_size, now.st_mtime_ns))
        return frozenset(found)
