"""Converts notifications to samples and events."""
