"""Dagster sensors and schedules, which start runs."""
