"""Judges points: finds the quality rules that each breaks, and lists flagged points in quarantine."""
