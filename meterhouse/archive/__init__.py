"""Seals arrival days."""
