"""The reference page of who may do what by the HTTP API, from its table of rules and its paths."""

import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from meterhouse.api.access.rules import IMPLIED, RULES
from meterhouse.api.app import create_app
from meterhouse.api.asked import actions
from meterhouse.settings import Settings
from meterhouse.site import Site

Table = Callable[[Sequence[str], Iterable[Sequence[str]]], str]
Code = Callable[[object], str]

_START = """\
# Rules of the API

What each role may do by the HTTP API. [The API's guide](../api.md#who-may) says how a request gets its roles, and \
whose data it sees: an administrator that of all projects, anybody else that of the own project.
"""


def api_rules_page(table: Table, code: Code) -> str:
    """The page, as Markdown.

    Args:
        table: makes a table of columns and rows.
        code: makes inline code.
    """
    with tempfile.TemporaryDirectory() as folder:
        taken = actions(create_app(Site.open(Settings(home=Path(folder)))))
    paths = {action: ", ".join(code(name) for name in sorted(taken) if taken[name] == action) for action in RULES}
    rules = ((code(action), rule.meaning, code(rule.role), paths[action]) for action, rule in RULES.items())
    free = "\n".join(f"- {code(name)}" for name, action in sorted(taken.items()) if action is None)
    implied = ((code(role), ", ".join(map(code, others))) for role, others in IMPLIED.items())
    return "\n".join(
        [
            _START,
            table(("action", "allows", "takes the role", "requests"), rules),
            "## Roles that bring others\n",
            "Keystone lists these with each token. Without Keystone, they count just so.\n",
            table(("role", "has also"), implied),
            "## What nobody is asked for\n",
            f"These requests need no identity:\n\n{free}\n",
        ]
    )
