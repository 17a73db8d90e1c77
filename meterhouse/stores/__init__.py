"""Where data is kept: the lake (Delta tables, files), the warehouse (SQL), DuckDB over both; and their tables."""
