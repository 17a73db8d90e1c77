"""Dagster sensors and schedules: what starts work."""
