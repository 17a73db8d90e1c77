"""What the user reads: errors and progress, one line each."""

from __future__ import annotations

import sys


class ServiceError(Exception):
    """A service cannot be provided. The text is one line: what failed, where, and what to do."""


def say(text: str) -> None:
    """Print a line on standard error; standard output is for the variables."""
    print(f"services: {text}", file=sys.stderr, flush=True)
