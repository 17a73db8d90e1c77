"""Which copies of a point are one point, and which of them counts.

A gauge's or counter's point is (series, time, volume): a message that came twice, or a file that was loaded again, adds
nothing. A delta's is (series, time, sample_id). Points of one series and time with other volumes are no copies of each
other, but a conflict: all of them stay, and the rule `duplicate` decides between them.

Of copies, the one counts that came first at or after its own time. If all came before it, by a clock that is fast,
the last of them counts. So a point is in the future only if all its copies are. On equal arrivals, the lower sample_id
counts, then the lower metadata_id, then the lower volume; nulls come last. It makes no difference whether copies are
merged all at once or in parts.
"""

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]

NULL = np.iinfo(np.int64).max
"""Stands for null in arrays of ids."""


def volume_bits(volume: npt.NDArray[np.float64]) -> Integers:
    """Integers that are equal for equal volumes: all NaN are equal, and -0.0 is 0.0."""
    canonical = np.where(np.isnan(volume), np.nan, volume + 0.0)
    return canonical.view(np.int64)


def counting(
    place: Integers,
    timestamp: Integers,
    volume: npt.NDArray[np.float64],
    sample_id: Integers,
    recorded_at: Integers,
    metadata_id: Integers,
    is_delta: npt.NDArray[np.bool_],
) -> npt.NDArray[np.intp]:
    """The places of the rows that count, by series, time, and what tells points apart; shape (m,).

    Args:
        place: any number of the row's series; shape (n,), as all arguments.
        timestamp: µs.
        volume: the volume.
        sample_id: with NULL for null.
        recorded_at: when the row came, µs.
        metadata_id: with NULL for null.
        is_delta: whether the row is a delta.
    """
    identity = np.where(is_delta, sample_id, volume_bits(volume))
    early = recorded_at < timestamp
    arrival = np.where(early, -recorded_at, recorded_at)
    order = np.lexsort((volume + 0.0, metadata_id, sample_id, arrival, early, identity, timestamp, place))
    first = np.ones(len(order), np.bool_)
    keys = (place[order], timestamp[order], identity[order])
    first[1:] = np.logical_or.reduce([key[1:] != key[:-1] for key in keys])
    return order[first]
