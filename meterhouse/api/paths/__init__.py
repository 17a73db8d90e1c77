"""The paths of the API, by the service whose they are."""
