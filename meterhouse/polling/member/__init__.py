"""The member: the process that claims tasks, polls them, lands their samples, and records what came of them."""
