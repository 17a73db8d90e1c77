"""How answers are made: time limits, cancellation, kept answers."""
