"""The metadata of resources by time, in columns."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from meterhouse.rollups.described import FOREVER, History

CHANGES = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9), st.integers(1, 5)))


@given(CHANGES, st.lists(st.tuples(st.integers(-1, 4), st.integers(-1, 10)), max_size=8))
def test_the_last_change_at_or_before_a_time_counts_and_the_next_one_ends_it(
    changes: list[tuple[int, int, int]], asked: list[tuple[int, int]]
) -> None:
    changes.sort(key=lambda change: change[:2])
    history = History(*(np.array([change[n] for change in changes], np.int64) for n in range(3)))
    resource, time = (np.array([each[n] for each in asked], np.int64) for n in range(2))
    metadata, known = history.at(resource, time)
    before = [[m for r, t, m in changes if r == of and t <= at][-1:] for of, at in asked]
    assert [[m] if there else [] for m, there in zip(metadata.tolist(), known.tolist(), strict=True)] == before
    after = [min((t for r, t, _ in changes if r == of and t > at), default=FOREVER) for of, at in asked]
    assert history.next(resource, time).tolist() == after
