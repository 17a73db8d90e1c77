"""The demo: a simulated cloud that sends what a real one would, and a receiver for the alarms' webhooks."""
