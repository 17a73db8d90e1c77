"""Dagster assets, one file for each stage of the pipeline."""
