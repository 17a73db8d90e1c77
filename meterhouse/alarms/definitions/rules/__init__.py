"""The rules of alarms, a file for each kind."""
