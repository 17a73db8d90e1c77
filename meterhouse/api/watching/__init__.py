"""How the API is watched: metrics, health, the access log."""
