"""Commands of archive policies: list, show, check, import."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from meterhouse.cli.groups import ListsByDefault
from meterhouse.cli.options import prints
from meterhouse.cli.output import Printer, line, note
from meterhouse.untrusted import printable

if TYPE_CHECKING:
    from meterhouse.definitions.archive_policies import Policies, Policy

_COLUMNS = ("policy", "tiers", "percentiles", "min_points", "warehouse", "meters", "description")
_FILES = click.Path(path_type=Path)


@click.group(cls=ListsByDefault)
def policies() -> None:
    """Archive policies: which roll-ups are made of which meters; without a command, list them."""


@policies.command("list")
@prints(*_COLUMNS, whole=("policy",))
def list_policies(printer: Printer) -> None:
    """List the policies that rules can name, with the meters of each."""
    given = _of_site()
    meters: dict[str, list[str]] = {name: [] for name in given.named}
    for rule in given.rules:
        meters[rule.policy].append(rule.glob)
    meters[given.default].append("all others" if given.rules else "all")
    found = [given.named[name] for name in sorted(given.named, key=lambda name: (not meters[name], name))]
    printer.rows([_row(policy, meters[policy.name]) for policy in found])


@policies.command()
@click.argument("meter")
@prints("meter", "policy", "rule", "file", "tiers", "percentiles", "min_points", "warehouse")
def show(meter: str, printer: Printer) -> None:
    """Show the policy of METER, the rule that gives it, and its tiers.

    A tier below an hour is made for a series only in the hours in which its points come often enough: min_points times
    the median step is at most the granularity.
    """
    from meterhouse.definitions import timespans

    given = _of_site()
    policy, rule = given.of(meter), given.rule_of(meter)
    tiers = []
    for tier in policy.tiers:
        row = {
            "granularity": timespans.text(tier.seconds),
            "keep": timespans.text(tier.keep) if tier.keep else "for ever",
        }
        often = policy.min_points > 1 and tier.seconds in policy.finer
        tiers.append(row | {"made": f"for steps up to {tier.seconds / policy.min_points:g} s" if often else "always"})
    printer.figures(
        meter,
        {
            "meter": meter,
            "policy": policy.name,
            "rule": rule.glob if rule else "default",
            "file": given.path,
            "tiers": tiers,
            "percentiles": list(policy.percentiles),
            "min_points": policy.min_points,
            "warehouse": policy.warehouse,
        },
    )


@policies.command()
@click.argument("files", nargs=-1, type=_FILES)
def check(files: tuple[Path, ...]) -> None:
    """Check archive policies (FILES: of Meterhouse, Gnocchi or Ceilometer; default: the site's own).

    The exit status is 1 if a policy or rule cannot work. The step leaves it out, and its meters get the default policy.
    """
    from meterhouse.definitions.archive_policies import read

    given = read(files) if files else _of_site()
    for each in (*given.faults, *given.notes):
        line(printable(str(each)))
    _finish(given)


@policies.command("import")
@click.argument("files", nargs=-1, required=True, type=_FILES)
def import_policies(files: tuple[Path, ...]) -> None:
    """Print an archive_policies.yaml with the policies and rules of FILES, which are of Gnocchi or Ceilometer.

    FILES are what Gnocchi returns of `/v1/archive_policy` and `/v1/archive_policy_rule`, in JSON or YAML, or a
    `gnocchi_resources.yaml`. What has no counterpart is named on standard error. The exit status is 1 if a policy or
    rule cannot work.
    """
    from meterhouse.definitions.archive_policies import as_text, read

    given = read(files)
    line(as_text(given).rstrip())
    for each in (*given.faults, *given.notes):
        note(str(each))
    _finish(given)


def _finish(given: "Policies") -> None:
    """Say how many there are, and exit with 1 if one cannot work."""
    counts = {"policies": given.own, "rules": given.rules, "faults": given.faults, "notes": given.notes}
    note(", ".join(f"{name}: {len(found)}" for name, found in counts.items()))
    if given.faults:
        raise SystemExit(1)


def _of_site() -> "Policies":
    from meterhouse.definitions.archive_policies import load
    from meterhouse.settings import settings

    return load(settings().config_dir)


def _row(policy: "Policy", meters: list[str]) -> dict[str, Any]:
    from meterhouse.definitions import timespans

    return {
        "policy": policy.name,
        "tiers": [timespans.text(tier.seconds) for tier in policy.tiers],
        "percentiles": list(policy.percentiles),
        "min_points": policy.min_points,
        "warehouse": policy.warehouse,
        "meters": meters,
        "description": policy.description,
    }
