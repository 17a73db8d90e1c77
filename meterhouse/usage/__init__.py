"""What existed when, and how much of it: periods of resources, usage, reconciliation, names."""
