"""Checks of what is configured: settings, definitions, quality rules, alarms and names."""

import os
from collections.abc import Iterator
from difflib import get_close_matches

from meterhouse.doctor.findings import Finding, State
from meterhouse.settings import FILED, declarations, file_variable, settings, variable
from meterhouse.site import Site


def settings_are_known() -> Iterator[Finding]:
    """Whether the settings can be used, and each `METERHOUSE_*` variable is one."""
    known = {*map(variable, declarations()), *map(file_variable, FILED), "METERHOUSE_DEBUG"}
    home = f"home {settings().home_path}"
    names = {name for name in os.environ if name.startswith("METERHOUSE_")}
    unknown = sorted(name for name in names - known if not name.startswith(("METERHOUSE_TEST_", "METERHOUSE_SERVICE")))
    if not unknown:
        yield Finding("settings", "ok", home)
        return
    near = get_close_matches(unknown[0], known, n=1)
    meant = f", did you mean {near[0]}?" if near else ""
    yield Finding("settings", "warning", f"{home}; unknown setting {', '.join(unknown)}{meant}")


def definitions(site: Site) -> Iterator[Finding]:
    """Whether the definition files can be read, and each definition can work."""
    from meterhouse.definitions.checking import check_folder

    given = site.settings
    checked = check_folder(given.config_dir, icehouse_names=given.icehouse_names, icehouse_meters=given.icehouse_meters)
    if not checked.findings:
        counts = f"{checked.meters} meters and {checked.events} event definitions, all of them valid"
        yield Finding("definitions", "ok", counts)
    states: dict[str, State] = {"fault": "failed", "warning": "warning"}
    for finding in checked.findings:
        yield Finding("definitions", states[finding.severity], str(finding))


def quality_rules(site: Site) -> Iterator[Finding]:
    """Whether the quality rules can be read."""
    rules = site.rules
    yield Finding("quality rules", "ok", f"{len(rules.rules)} rules of {rules.path}")


def alarms(site: Site) -> Iterator[Finding]:
    """Whether the alarms can be read."""
    from meterhouse.alarms.definitions.files import load

    yield Finding("alarms", "ok", f"{len(load(site.settings.config_dir))} alarms")


def names(site: Site) -> Iterator[Finding]:
    """Whether `names.csv` can be read, and each row can be used."""
    from meterhouse.usage import names_file

    given = names_file.load(site.settings.config_dir)
    for fault in given.faults:
        yield Finding("names", "warning", str(fault))
    if given.path is not None and not given.faults:
        yield Finding("names", "ok", f"{len(given.names)} names of {given.path}")
    elif given.path is None:
        yield Finding("names", "ok", "no names.csv")


def keystone(site: Site) -> Iterator[Finding]:
    """Whether Keystone accepts the account, and lets it list projects; no finding if no Keystone is set."""
    if not site.settings.keystone_url:
        return
    from meterhouse.keystone import account, session

    with session(site.settings) as asked:
        asked.log_in()
        next(asked.listed("/domains", "domains"), None)
        next(asked.listed("/projects", "projects"), None)
    who = account(site.settings)
    yield Finding("keystone", "ok", f"{site.settings.keystone_url} lists projects for the account {who}")


def archive_policies(site: Site) -> Iterator[Finding]:
    """Whether the archive policies can be read, and each policy and rule can work."""
    policies = site.policies
    for fault in policies.faults:
        yield Finding("archive policies", "warning", str(fault))
    if not policies.faults:
        rules = "1 rule" if len(policies.rules) == 1 else f"{len(policies.rules)} rules"
        yield Finding("archive policies", "ok", f"{rules} and the default '{policies.default}' of {policies.path}")


def reports(site: Site) -> Iterator[Finding]:
    """Whether the site's own reports can be run."""
    from meterhouse.queries import report_files

    own = [each for each in report_files.listed(site.settings.config_dir).values() if each.is_own]
    for each in own:
        if each.fault:
            line, reason = each.fault
            yield Finding("reports", "warning", str(each.error(reason, line)))
    if not any(each.fault for each in own):
        yield Finding("reports", "ok", f"{len(report_files.ours())} shipped, {len(own)} of your own")


def prices(site: Site) -> Iterator[Finding]:
    """Whether the prices can be read, and each price, discount, minimum and tax can work."""
    from meterhouse.definitions.prices import load

    found = load(site.settings.config_dir)
    for fault in found.faults:
        yield Finding("prices", "warning", str(fault))
    if not found.faults:
        yield Finding("prices", "ok", f"{len(found.prices)} prices of {found.path}")
