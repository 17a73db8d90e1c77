"""Computes roll-ups of good points."""
