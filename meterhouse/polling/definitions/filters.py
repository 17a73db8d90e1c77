"""Filters of names, as sources of polling.yaml have them: globs, and `!` before those that exclude."""

from collections.abc import Sequence
from fnmatch import fnmatchcase


def check(patterns: Sequence[str]) -> None:
    """Check the patterns of a filter together, by Ceilometer's rules.

    Raises:
        ValueError: there are none, or they cannot be combined.
    """
    if not patterns:
        raise ValueError("there is no name or pattern")
    if any(not each.removeprefix("!") for each in patterns):
        raise ValueError("a name or pattern is empty")
    included = [each for each in patterns if each[0] not in "!*"]
    excluded = [each for each in patterns if each[0] == "!"]
    if included and excluded:
        raise ValueError(
            f"'{included[0]}' includes and '{excluded[0]}' excludes; use one of both, or * with exclusions"
        )
    if included and "*" in patterns:
        raise ValueError(f"'{included[0]}' is in '*' already; use one of both")


def matches(patterns: Sequence[str], name: str) -> bool:
    """Whether a filter includes a name: no exclusion matches, and an inclusion does, if there is any."""
    included = [each for each in patterns if not each.startswith("!")]
    if any(fnmatchcase(name, each[1:]) for each in patterns if each.startswith("!")):
        return False
    return not included or any(fnmatchcase(name, each) for each in included)
