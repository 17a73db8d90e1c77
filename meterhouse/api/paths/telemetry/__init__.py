"""The paths of Ceilometer: meters, samples, statistics, resources, events."""
