"""Arrival days that are over, sealed."""
