"""A bill as a file: HTML, CSV, Parquet, JSON, FOCUS."""
