"""Reads what is to be polled: the sources of polling.yaml, and the pollsters of pollsters.d.

The files are Ceilometer's. An entry that cannot work is left out, with its file, line and reason; the others are used.
"""

from meterhouse.polling.definitions.findings import Finding
from meterhouse.polling.definitions.kept import keep
from meterhouse.polling.definitions.loading import FOLDER, SOURCES, Polling, load, load_files

__all__ = ["FOLDER", "SOURCES", "Finding", "Polling", "keep", "load", "load_files"]
