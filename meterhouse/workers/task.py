"""The function that Dask calls. Its scheduler imports this module too, so it imports nothing until it is called."""


def run(sent: tuple[str, dict[str, str], str, bytes], part: bytes) -> bytes:
    """Do a pass, on a worker; see `on_worker.run`."""
    from meterhouse.workers import on_worker

    return on_worker.run(sent, part)
