"""The definition files of a site, checked together: no step starts if one of them is invalid."""

from meterhouse.definitions import archive_policies, loading, quality_rules, resources, units
from meterhouse.settings import Settings, settings
from meterhouse.site import Site


def check(values: Settings) -> None:
    """Read the meter and event definitions, the quality rules, the archive policies, the billable resources and the
    units.

    A single meter or policy that cannot work is left out by the step that uses it, and stops nothing else. Alarms are
    read by their own step alone.

    Raises:
        DefinitionError: a file is invalid; the error has file, line, what is wrong and what to do.
    """
    loading.load(values.config_dir, icehouse_names=values.icehouse_names, icehouse_meters=values.icehouse_meters)
    quality_rules.load(values.config_dir)
    archive_policies.load(values.config_dir)
    resources.load(values.config_dir)
    units.load(values.config_dir)


def open_checked(values: Settings | None = None) -> Site:
    """Check the definition files and open the site, for a step that changes it.

    Raises:
        DefinitionError: a file is invalid; nothing was started.
    """
    values = values or settings()
    check(values)
    return Site.open(values)
