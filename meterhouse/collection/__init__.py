"""Stream to lake: drain, land, acknowledge; dead letters retried, lag; files loaded as if collected."""
