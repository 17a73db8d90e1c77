"""Stream to lake: drains, lands, acknowledges; retries dead letters, measures the lag, loads files."""
