"""Fixes what a power cut, a restore or a fault of the disk left behind: `meterhouse doctor --mend`."""
