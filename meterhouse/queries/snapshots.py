"""Resource metadata by its id, read from the warehouse as it is needed."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from sqlalchemy import select

from meterhouse.filters import Leaf, on_lake
from meterhouse.sample_quality.series_table import Flags, Ints
from meterhouse.site import Site
from meterhouse.stores.warehouse_tables import resource_metadata

IDS_AT_ONCE = 5_000
"""How many ids one query of the warehouse lists; databases bound the parameters of a query."""


@dataclass
class Snapshots:
    """Resource metadata of a site."""

    site: Site
    _texts: dict[int, str | None] = field(default_factory=dict)
    _met: dict[Leaf, dict[int, bool]] = field(default_factory=dict)

    def texts(self, ids: Iterable[int]) -> Mapping[int, str | None]:
        """The metadata of some ids at least: JSON text; None of an id that there is not."""
        lacking = [each for each in dict.fromkeys(ids) if each not in self._texts]
        with self.site.warehouse.read() as connection:
            for place in range(0, len(lacking), IDS_AT_ONCE):
                some = lacking[place : place + IDS_AT_ONCE]
                self._texts.update(dict.fromkeys(some))
                query = select(resource_metadata).where(resource_metadata.c.metadata_id.in_(some))
                self._texts.update((row[0], row[1]) for row in connection.execute(query))
        return self._texts

    def parsed(self, ids: Iterable[int]) -> dict[int, Any]:
        """The metadata of those of these ids that there are."""
        texts = self.texts(wanted := list(ids))
        return {each: json.loads(text) for each in wanted if (text := texts[each]) is not None}

    def meeting(self, leaf: Leaf, ids: Ints) -> Flags:
        """Which metadata, by its id, meets a comparison."""
        met = self._met.setdefault(leaf, {})
        lacking = [each for each in ids.tolist() if each not in met]
        if lacking:
            texts = self.texts(lacking)
            metadata = pa.array([texts[each] for each in lacking], pa.string())
            table = pa.table({"id": pa.array(lacking, pa.int64()), "metadata": metadata})
            condition, values = on_lake(leaf)
            with self.site.lake.connect() as duck:
                duck.register("snapshots", table)
                found = duck.execute(f"SELECT id FROM snapshots WHERE {condition}", values).fetchnumpy()["id"]
            met.update(dict.fromkeys(lacking, False))
            met.update(dict.fromkeys(np.asarray(found).tolist(), True))
        return np.array([met[each] for each in ids.tolist()], np.bool_)
