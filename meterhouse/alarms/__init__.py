"""Alarms: their definitions, their evaluation, and the delivery of what they have to say."""
