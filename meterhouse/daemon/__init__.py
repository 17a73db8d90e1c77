"""Dagster's daemon under a leader lease: of several machines, one runs it, and another takes over if that one dies."""
