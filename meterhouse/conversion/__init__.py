"""Notifications to samples and events."""
