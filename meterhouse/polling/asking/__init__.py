"""Asks services and hosts: with credentials, within limits of time, size and rate."""


class Asking:
    """What pollsters ask with: connections, tokens and limits, shared by the threads of a member."""
