"""Whether a site can answer: its warehouse and lake are reachable, and Keystone if it says who may ask."""

import os
from pathlib import Path

from sqlalchemy import text

from meterhouse.errors import Unavailable
from meterhouse.site import Site


def warehouse_answers(site: Site) -> bool:
    """Ask the warehouse for a row.

    Raises:
        MeterhouseError: it cannot be reached, or its schema is not this version's.
    """
    with site.warehouse.read() as connection:
        connection.execute(text("SELECT 1"))
    return True


def lake_answers(site: Site) -> bool:
    """Look at the lake's folder, or list an object of its bucket.

    Raises:
        Exception: it cannot be reached; of the file system's own kinds.
    """
    url = site.lake.url
    if url.startswith("s3://"):
        bucket, _, prefix = url.removeprefix("s3://").partition("/")
        site.lake.filesystem.call_s3("list_objects_v2", Bucket=bucket, Prefix=prefix, MaxKeys=1)
        return True
    folder = Path(url)
    there = next(each for each in (folder, *folder.parents) if each.exists())  # a new site has no lake yet
    if not there.is_dir() or not os.access(there, os.R_OK | os.W_OK | os.X_OK):
        raise Unavailable("the lake's folder cannot be read and written", where=str(there))
    return True
