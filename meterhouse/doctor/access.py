"""Checks of access: who can read what a site keeps in files."""

from collections.abc import Iterator
from pathlib import Path

from sqlalchemy.engine import make_url

from meterhouse.doctor.findings import Finding
from meterhouse.private_files import is_open_to_others
from meterhouse.settings import secret_files
from meterhouse.site import Site


def access(site: Site) -> Iterator[Finding]:
    """Whether other users of this machine can read the site. An object store and PostgreSQL have their own accounts."""
    values = site.settings
    kept = [values.home_path, *secret_files()]
    if site.warehouse.is_sqlite:
        kept.append(Path(make_url(values.warehouse).database or ""))
    if not values.lake.startswith("s3://"):
        kept.append(Path(values.lake))
    closed = {path for path in kept if path.exists() and not is_open_to_others(path)}
    # What lies in a folder that nobody else may enter is not open.
    exposed = [path for path in kept if is_open_to_others(path) and not closed.intersection(path.parents)]
    for path in exposed:
        yield Finding("access", "warning", f"every user of this machine can read {path}", f"run `chmod o-rwx {path}`")
    if not exposed:
        yield Finding("access", "ok", "other users of this machine cannot read the site's files")
