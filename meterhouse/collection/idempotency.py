"""The Idempotency-Keys of posted samples: a key of one project stands for the same samples, at the same time.

A repeat is sent again as the first one was, and landed once, because its message_ids are the same. So it does not
matter whether the first one got through, or at what moment something was killed.

Source: draft-ietf-httpapi-idempotency-key-header.
"""

from datetime import datetime

from sqlalchemy import select
from sqlalchemy.dialects import postgresql, sqlite

from meterhouse.errors import UsageError
from meterhouse.site import Site
from meterhouse.stores.warehouse_tables import idempotency_keys


class OtherContent(UsageError):
    """A key that came before with other samples."""


def first_time(site: Site, project: str, key: str, digest: str, now: datetime) -> datetime:
    """When a key came for the first time: `now`, if it is new.

    Args:
        site: the site.
        project: that uses the key; empty if it is none.
        key: the key.
        digest: of what came with it.
        now: the time of the request.

    Raises:
        OtherContent: something else came with it.
        Unavailable: the warehouse does not answer.
    """
    row = {"project_id": project, "idempotency_key": key, "digest": digest, "first_at": now}
    columns = idempotency_keys.c
    insert = sqlite.insert if site.warehouse.is_sqlite else postgresql.insert
    with site.warehouse.begin() as connection:
        connection.execute(insert(idempotency_keys).values(row).on_conflict_do_nothing())
        known = select(columns.digest, columns.first_at).where(
            columns.project_id == project, columns.idempotency_key == key
        )
        was, first_at = connection.execute(known).one()
    if was != digest:
        raise OtherContent(
            "this Idempotency-Key came with other samples before",
            where="Idempotency-Key",
            hint="Use a new key for new samples; a repeat has the same key and the same body",
        )
    found: datetime = first_at
    return found
