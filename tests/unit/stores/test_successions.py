"""Of processes that put a successor of one run into the queue, one succeeds."""

from concurrent.futures import ThreadPoolExecutor

from meterhouse.site import Site
from meterhouse.stores.successions import last, succeed


def test_of_many_that_succeed_one_run_at_the_same_time_one_does(any_warehouse: Site) -> None:
    warehouse = any_warehouse.warehouse
    for before, names in ((None, "abcdef"), ("", "ghijkl")):
        known = last(warehouse, "recompute") if before is not None else None
        with ThreadPoolExecutor(6) as threads:
            done = list(threads.map(lambda name, known=known: succeed(warehouse, "recompute", known, name), names))
        assert done.count(True) == 1
        assert last(warehouse, "recompute") == names[done.index(True)]
    assert not succeed(warehouse, "recompute", "somebody", "else")
    assert last(warehouse, "another") is None
