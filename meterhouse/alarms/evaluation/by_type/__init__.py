"""Decides the alarms of all types other than threshold and event, one after the other: they are few."""
