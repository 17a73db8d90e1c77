"""The functions of `re`, on expressions whose work is bounded."""

import re
from collections.abc import Callable
from functools import lru_cache
from typing import Any, Final

from meterhouse.definitions.patterns import compile_pattern, steps, substitute
from meterhouse.polling.expressions.costs import CHARACTERS, Budget

_ENGINE_STEPS: Final = 10
"""How many steps of the engine are one step of an evaluation."""

_steps = lru_cache(maxsize=1024)(steps)
_compiled = lru_cache(maxsize=256)(compile_pattern)


def _checked(budget: Budget, pattern: Any, text: Any) -> re.Pattern[str]:
    """The compiled pattern, after the steps that it may take on this text have been taken."""
    if not isinstance(pattern, str) or not isinstance(text, str):
        raise TypeError("a regular expression and what it is applied to are texts")
    budget.spend(len(pattern))
    compiled = _compiled(pattern)
    rounded = 1 << len(text).bit_length()  # up, to few lengths
    budget.spend(min(_steps(pattern, rounded) / _ENGINE_STEPS, budget.steps + 1))
    return compiled


def _substituted(budget: Budget, pattern: Any, replacement: Any, text: Any) -> str:
    compiled = _checked(budget, pattern, text)
    if not isinstance(replacement, str):
        raise TypeError("the replacement of a regular expression is a text")
    made = substitute(compiled, replacement, text)
    budget.spend(len(made) // CHARACTERS)
    return made


def _with(method: str) -> Callable[[Budget, Any, Any], Any]:
    def call(budget: Budget, pattern: Any, text: Any) -> Any:
        made = getattr(_checked(budget, pattern, text), method)(text)
        if isinstance(made, list):
            budget.built = True
            budget.spend(len(made))
        return made

    return call


FUNCTIONS: Final[dict[str, Callable[..., Any]]] = {
    "sub": _substituted,
    **{name: _with(name) for name in ("search", "match", "fullmatch", "findall", "split")},
}
"""By name."""
