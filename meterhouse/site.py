"""A site: the settings, the lake and the warehouse that every step works on."""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from meterhouse.settings import Settings, settings
from meterhouse.stores.warehouse import Warehouse

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from meterhouse.definitions.archive_policies import Policies
    from meterhouse.definitions.loading import Definitions
    from meterhouse.definitions.quality_rules import Rules
    from meterhouse.stores.kept import Kept
    from meterhouse.stores.lake import Lake
    from meterhouse.stream import Stream


@dataclass(frozen=True)
class Site:
    """One deployment of Meterhouse."""

    settings: Settings
    warehouse: Warehouse

    @classmethod
    def open(cls, given: Settings | None = None) -> "Site":
        """The site that the settings name; the schema of its warehouse is created or checked."""
        given = given or settings()
        return cls(given, Warehouse.from_settings(given))

    @cached_property
    def lake(self) -> "Lake":
        """The lake, opened on first use: queries of the warehouse alone load no Arrow, Delta or DuckDB."""
        return self._lake(lambda table: self.warehouse.lock(f"lake/{table}"))

    def _lake(self, commit_lock: "Callable[[str], AbstractContextManager[object]] | None" = None) -> "Lake":
        from meterhouse.stores.lake import Lake

        return Lake.from_settings(self.settings, commit_lock)

    @cached_property
    def kept(self) -> "Kept":
        """What was computed from the stores, kept while they do not change, by a server."""
        from meterhouse.stores.kept import Kept

        return Kept(self.warehouse)

    @cached_property
    def stream(self) -> "Stream":
        """The stream of notifications."""
        if self.settings.is_spool:
            from meterhouse.stream.spool import Spool

            return Spool(self.settings.spool, self.settings.collect_bytes, self.settings.message_bytes)
        from meterhouse.stream.amqp import AmqpStream

        # A separate lake object: the draining threads look up positions.
        lake = self._lake()
        return AmqpStream.from_settings(self.settings, lambda name: lake.transaction("notifications", name))

    @property
    def definitions(self) -> "Definitions":
        """The meter and event definitions, reloaded when their files change."""
        from meterhouse.definitions.loading import load

        given = self.settings
        return load(given.config_dir, icehouse_names=given.icehouse_names, icehouse_meters=given.icehouse_meters)

    @property
    def rules(self) -> "Rules":
        """The quality rules."""
        from meterhouse.definitions.quality_rules import load

        return load(self.settings.config_dir)

    @property
    def policies(self) -> "Policies":
        """The archive policies, reloaded when their file changes."""
        from meterhouse.definitions.archive_policies import load

        return load(self.settings.config_dir)
