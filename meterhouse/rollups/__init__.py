"""Good points to roll-ups."""
