"""Finds what is polled: endpoints of Keystone's catalogue, projects, lists; by Ceilometer's names."""

from meterhouse.polling.discovery.discovering import discover, endpoints

__all__ = ["discover", "endpoints"]
