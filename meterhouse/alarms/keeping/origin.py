"""Where an alarm comes from."""

from typing import Final

FILE: Final = "file"
"""A file declares it: `alarms.yaml`, or one of `alarms.d/`."""

OUTSIDE: Final = "outside"
"""It came by the command line or the API."""
