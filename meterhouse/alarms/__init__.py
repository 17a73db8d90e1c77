"""Alarms: their definitions, their evaluation, and the delivery of their notifications."""
