"""The paths of the API ask the site only by functions that take whose data may be seen."""

import ast
import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from meterhouse.api import paths

WHOSE = ("Scope", "EventScope", "EventPage", "Caller", "Question", "Identity")
"""Types that say whose data may be seen."""

ALL = ("EVERYTHING", "ALL_EVENTS", "OPERATOR", "Scope", "EventScope", "Caller")
"""What a path must not make: it takes those of the identity that asks."""

WITHOUT = ("first_time", "Snapshots")
"""Functions that take the project itself, or ids of metadata that a query with a scope has found."""

STORES = ("warehouse", "lake", "stream")
"""What a path must not reach for: functions with a scope do."""


def _modules() -> Iterator[ModuleType]:
    for each in pkgutil.walk_packages(paths.__path__, f"{paths.__name__}."):
        yield importlib.import_module(each.name)


def _asked(module: ModuleType, tree: ast.Module) -> Iterator[tuple[str, Callable[..., Any]]]:
    """The functions of other packages that a module calls with a site."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        found: Any = module
        for part in name.split("."):
            found = getattr(found, part, None)
        if callable(found) and not str(getattr(found, "__module__", "")).startswith("meterhouse.api"):
            given = [ast.unparse(each) for each in (*node.args, *(keyword.value for keyword in node.keywords))]
            if any(each == "site" or each.endswith(".site") for each in given):
                yield name, found


def test_a_path_asks_the_site_by_functions_that_take_whose_data_may_be_seen() -> None:
    faults, seen = [], 0
    for module in _modules():
        assert module.__file__ is not None
        tree = ast.parse(Path(module.__file__).read_text())
        for name, function in _asked(module, tree):
            seen += 1
            if name in WITHOUT:
                continue
            taken = inspect.signature(function).parameters.values()
            whose = [each for each in taken if any(part in WHOSE for part in str(each.annotation).split("."))]
            whose += [each for each in taken if getattr(each.annotation, "__name__", "") in WHOSE]
            if not whose or any(each.default is not each.empty for each in whose):
                faults.append(f"{module.__name__} calls {name}, which takes no {', '.join(WHOSE)}")
        for node in ast.walk(tree):
            made = isinstance(node, ast.Name | ast.alias) and (node.id if isinstance(node, ast.Name) else node.name)
            if made in ALL:
                faults.append(f"{module.__name__} makes {made}: take it from asked.identity")
            if isinstance(node, ast.Attribute) and node.attr in STORES:
                faults.append(f"{module.__name__} reaches for .{node.attr}: call a function that takes a scope")
    assert not faults, "\n".join(faults)
    assert seen > 10, "the calls are no longer found"
