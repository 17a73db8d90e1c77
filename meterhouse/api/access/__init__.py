"""Who asks, and what they may do: identities of requests, and the table of rules."""
