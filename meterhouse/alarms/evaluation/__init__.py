"""Evaluates alarms, and writes states, history and outbox."""
