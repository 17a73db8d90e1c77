"""Sends the notifications of the outbox."""
