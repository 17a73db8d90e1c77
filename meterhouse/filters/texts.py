"""Conditions that compare texts only, on Arrow tables: in no database, in microseconds."""

from typing import TYPE_CHECKING, Any

from meterhouse.filters.conditions import And, Condition, Filter, Leaf, Not, OneOf, Or, leaves_of

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

_FUNCTIONS = {
    "eq": "equal",
    "ne": "not_equal",
    "lt": "less",
    "le": "less_equal",
    "gt": "greater",
    "ge": "greater_equal",
}


def compares_texts(condition: Condition) -> bool:
    """Whether a condition compares texts only, and searches in none."""
    return all(isinstance(leaf, Filter | OneOf) and leaf.target.type == "text" for leaf in leaves_of(condition))


def on_texts(condition: Condition, rows: "pa.Table") -> "npt.NDArray[np.bool_]":
    """Which rows meet a condition that compares texts only.

    Args:
        condition: for which `compares_texts` is true.
        rows: with the columns of its fields.
    """
    import numpy as np

    match condition:
        case And(parts):
            met = np.ones(rows.num_rows, np.bool_)
            for part in parts:
                met &= on_texts(part, rows)
            return met
        case Or(parts):
            met = np.zeros(rows.num_rows, np.bool_)
            for part in parts:
                met |= on_texts(part, rows)
            return met
        case Not(part):
            return ~on_texts(part, rows)
        case leaf:
            return _compared(leaf, rows[leaf.target.column])


def _compared(leaf: Leaf, column: Any) -> "npt.NDArray[np.bool_]":
    import pyarrow as pa
    import pyarrow.compute as pc

    if isinstance(leaf, OneOf):
        met = pc.is_in(column, pa.array(leaf.among, pa.string()))
    else:
        assert isinstance(leaf, Filter)
        met = pc.call_function(_FUNCTIONS[leaf.op], [column, pa.scalar(leaf.value, pa.string())])
    found: npt.NDArray[np.bool_] = pc.fill_null(met, False).to_numpy()
    return found
