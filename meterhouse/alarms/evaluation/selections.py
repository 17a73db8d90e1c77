"""Which series each request reads: a join for each form of conditions, in place of a query for each rule."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from meterhouse.alarms.evaluation.requests import Requests, Shape
from meterhouse.sample_quality.series_table import Ints
from meterhouse.stores.duck import Connection


@dataclass(frozen=True)
class Selections:
    """The series of requests; requests with the same conditions share a selection.

    Attributes:
        of_request: each request's selection; -1 for requests of other shapes.
        first: where the members of each selection start; shape (selections + 1,).
        members: the numbers of series, ascending within a selection.
    """

    of_request: Ints
    first: Ints
    members: Ints

    def __len__(self) -> int:
        return len(self.first) - 1

    @property
    def owner(self) -> Ints:
        """The selection of each member."""
        return np.repeat(np.arange(len(self)), np.diff(self.first))


def selections(duck: Connection, requests: Requests, shapes: Sequence[Shape]) -> Selections:
    """The series of requests.

    Args:
        duck: has the table `dims`: number, meter, type, unit, source, resource_id, project_id, user_id, and k0, k1 and
            so on if a shape reads metadata.
        requests: all requests.
        shapes: those of them that matter.
    """
    of_request = np.full(len(requests), -1, np.int64)
    owners, members = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    count = 0
    for shape in shapes:
        meters = pa.DictionaryArray.from_arrays(
            pa.array(requests.meter[shape.numbers]), pa.array(requests.names, pa.string())
        )
        asked, of = _distinct(meters, shape.values)
        of_request[shape.numbers] = count + of
        duck.register("asked", asked)
        on = " AND ".join(["d.meter = a.meter", *shape.form])
        found = duck.execute(f"SELECT a.number, d.number AS member FROM asked AS a JOIN dims AS d ON {on}").fetchnumpy()
        duck.unregister("asked")
        owners.append(np.asarray(found["number"], np.int64) + count)
        members.append(np.asarray(found["member"], np.int64))
        count += asked.num_rows
    owner, member = np.concatenate(owners), np.concatenate(members)
    order = np.argsort(owner << 32 | member)
    return Selections(of_request, np.searchsorted(owner[order], np.arange(count + 1)), member[order])


def _distinct(meters: pa.DictionaryArray, values: Sequence[pa.Array]) -> tuple[pa.Table, Ints]:
    """The distinct rows as a table with their numbers, and the number of each row."""
    code: npt.NDArray[np.int64] = meters.indices.to_numpy().astype(np.int64)
    columns = [meters]
    for column in values:
        encoded = column.dictionary_encode()
        columns.append(encoded)
        _, code = np.unique(code * len(encoded.dictionary) + encoded.indices.to_numpy(), return_inverse=True)
    _, first, of = np.unique(code, return_index=True, return_inverse=True)
    rows = pa.array(first)
    made = {"number": pa.array(np.arange(len(first)))}
    for name, encoded in zip(["meter", *(f"v{n}" for n in range(len(values)))], columns, strict=True):
        made[name] = encoded.dictionary.take(encoded.indices.take(rows))
    return pa.table(made), of
