"""Dagster assets, one file a stage of the flow: what exists."""
