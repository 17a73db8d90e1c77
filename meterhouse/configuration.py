"""The definition files of a site, read as a whole: nothing starts on one that cannot work."""

from meterhouse.alarms import definitions as alarms
from meterhouse.definitions import loading, quality_rules
from meterhouse.settings import Settings, settings
from meterhouse.site import Site


def check(given: Settings) -> None:
    """Read the meter and event definitions, the quality rules and the alarms.

    Raises:
        DefinitionError: a file cannot work; says file, line, what is wrong and what to do.
    """
    loading.load(given.config_dir, icehouse_names=given.icehouse_names, icehouse_meters=given.icehouse_meters)
    quality_rules.load(given.config_dir)
    alarms.load(given.config_dir)


def open_checked(given: Settings | None = None) -> Site:
    """The site, opened for a step that changes it: its definition files are checked before.

    Raises:
        DefinitionError: a file cannot work; nothing was begun.
    """
    given = given or settings()
    check(given)
    return Site.open(given)
