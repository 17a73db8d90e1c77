"""Finds what is polled: endpoints of Keystone's catalogue, projects, lists; by Ceilometer's names."""

from meterhouse.polling.discovery.barbican import barbican_secret
from meterhouse.polling.discovery.discovering import discover, endpoints

__all__ = ["barbican_secret", "discover", "endpoints"]
