"""The definition files of a site, read as a whole: nothing starts on one that cannot work."""

from meterhouse.settings import Settings


def check(given: Settings) -> None:
    """Read the meter and event definitions, the quality rules and the alarms.

    Raises:
        DefinitionError: a file cannot work; says file, line, what is wrong and what to do.
    """
    from meterhouse.alarms import definitions as alarms
    from meterhouse.definitions import loading, quality_rules

    loading.load(given.config_dir, icehouse_names=given.icehouse_names, icehouse_meters=given.icehouse_meters)
    quality_rules.load(given.config_dir)
    alarms.load(given.config_dir)
