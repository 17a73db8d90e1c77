"""Asks services and hosts: with credentials, within limits of time, size and rate.

`Asking` is what pollsters use. `client` sends requests, `time_limits` ends those that take too long, `endpoints` reads
polling_endpoints.yaml, `rates` spreads requests, `tokens` logs in to Keystone, `authentication` is that of other APIs
than OpenStack's, `barbican` gets its credentials from there, and `commands` executes commands of the host.
"""

from meterhouse.polling.asking.asking import Asking
from meterhouse.polling.asking.client import Answer

__all__ = ["Answer", "Asking"]
