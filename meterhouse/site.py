"""A site: the settings, the lake and the warehouse that every step works on."""

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from meterhouse.settings import Settings, settings
from meterhouse.stores.lake import Lake
from meterhouse.stores.warehouse import Warehouse

if TYPE_CHECKING:
    from meterhouse.definitions.loading import Definitions
    from meterhouse.definitions.quality_rules import Rules
    from meterhouse.stream import Stream


@dataclass(frozen=True)
class Site:
    """One deployment of Meterhouse."""

    settings: Settings
    lake: Lake
    warehouse: Warehouse

    @classmethod
    def open(cls, given: Settings | None = None) -> "Site":
        """The site that the settings name; its warehouse's schema is made or checked."""
        given = given or settings()
        warehouse = Warehouse.from_settings(given)
        lake = Lake.from_settings(given, commit_lock=lambda table: warehouse.lock(f"lake/{table}"))
        return cls(given, lake, warehouse)

    @cached_property
    def stream(self) -> "Stream":
        """The stream of notifications."""
        if self.settings.is_spool:
            from meterhouse.stream.spool import Spool

            return Spool(self.settings.spool, self.settings.collect_bytes)
        from meterhouse.stream.amqp import AmqpStream

        # A lake of its own: positions are looked up by the threads that drain.
        lake = Lake.from_settings(self.settings)
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
