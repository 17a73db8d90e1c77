"""Rates a month, without reading it from a site.

    python bench/rating.py [RESOURCES [COUNTER_HOURS]]

So many resources (default 100,000, 2 of 5 instances) of 1,000 projects have one and a half stretches in the month, and
a counter so many hours (default 1,000,000). Prices: vCPUs by time of day, memory, volumes in tiers with an included
amount, traffic; a discount and a tax.

Prints seconds by the clock and of CPU, lines, and the memory that the process grew by.
"""

import resource
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from meterhouse.billing.rating import rate
from meterhouse.definitions import prices, units
from meterhouse.usage.amounts import COUNTERS, PERIODS

PRICES = """
currency: EUR
prices:
  - {name: vCPU, service: Compute, where: {resource_type: instance, state: active}, measure: vcpus, price: 0.0123,
     times: [{name: night, from: "22:00", to: "06:00", price: 0.009}]}
  - {name: memory, service: Compute, where: {resource_type: instance}, measure: memory_mib, unit: GiB, price: 0.0051}
  - {name: disk, service: Storage, where: {resource_type: volume}, measure: size_gib, per: month, included: 1000,
     graduated: [{up_to: 10000, price: 0.1}, {price: 0.05}]}
  - {name: egress, service: Network, meter: network.outgoing.bytes, unit: GiB, price: 0.05}
discounts: [{name: Partner, percent: 5, where: {service: Compute}}]
taxes: [{name: VAT, percent: 19}]
"""
START = 1_793_491_200_000_000  # 2026-11-01
MONTH = 30 * 86_400_000_000
PROJECTS = 1_000
TIME = pa.timestamp("us", "UTC")


@dataclass(frozen=True)
class Amounts:
    """What existed, and what was counted."""

    periods: pa.Table
    counters: pa.Table


def filled(schema: pa.Schema, count: int, **columns: object) -> pa.Table:
    """A table of a schema, null where nothing is said."""
    of = {name: pa.nulls(count, schema.field(name).type) for name in schema.names}
    of |= {name: pa.array(values, from_pandas=True).cast(schema.field(name).type) for name, values in columns.items()}
    return pa.table(of, schema=schema)


def periods(resources: int, random: np.random.Generator) -> pa.Table:
    """Stretches of resources, one and a half of each on average."""
    count = resources * 3 // 2
    of = np.sort(np.concatenate([np.arange(resources), random.integers(0, resources, count - resources)]))
    cuts = random.integers(1, MONTH - 1, count)
    cuts = cuts[np.lexsort((cuts, of))]
    first, last = np.append(True, of[1:] != of[:-1]), np.append(of[1:] != of[:-1], True)
    start, end = np.where(first, 0, cuts), np.where(last, MONTH, np.append(cuts[1:], 0))
    instance, flavor = of % 5 < 2, random.integers(0, 8, count)
    return filled(
        PERIODS,
        count,
        resource_type=np.where(instance, "instance", "volume"),
        resource_id=[f"{each * 2654435761 % 2**32:08x}-0000-4000-8000-{each:012x}" for each in of.tolist()],
        source=np.full(count, "openstack"),
        project_id=[f"{each:032x}" for each in (of % PROJECTS).tolist()],
        name=[f"vm-{each}" for each in of.tolist()],
        flavor=[f"m1.{each}" for each in flavor.tolist()],
        state=np.full(count, "active"),
        zone=np.full(count, "nova"),
        metadata=[f'{{"stage":"prod","number":{each}}}' for each in of.tolist()],
        start_evidence=[f"message-{each}" for each in range(count)],
        end_evidence=[f"message-{each + 1}" for each in range(count)],
        vcpus=np.where(instance, 2.0 ** (flavor // 2), np.nan),
        memory_mib=np.where(instance, 2048 * 2.0 ** (flavor // 2), np.nan),
        size_gib=np.where(instance, np.nan, random.integers(1, 1000, count)),
        started_at=START + start,
        ended_at=START + end,
    )


def counters(hours: int, resources: int, random: np.random.Generator) -> pa.Table:
    """Hours of counters of some resources, all hours of the month of each."""
    of = np.repeat(random.permutation(resources)[: hours // 720 + 1], 720)[:hours]
    return filled(
        COUNTERS,
        hours,
        meter=np.full(hours, "network.outgoing.bytes"),
        unit=np.full(hours, "GiB"),
        resource_id=[f"port-{each}" for each in of.tolist()],
        project_id=[f"{each:032x}" for each in (of % PROJECTS).tolist()],
        hour=START + np.arange(hours) % 720 * 3_600_000_000,
        amount=random.integers(0, 10**9, hours) / 2**30,
    )


def main() -> None:
    resources, hours = (int(each) for each in (sys.argv[1:] + ["100000", "1000000"][len(sys.argv) - 1 :])[:2])
    random = np.random.default_rng(1)
    amounts = Amounts(periods(resources, random), counters(hours, resources, random))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / prices.FILE
        path.write_text(PRICES)
        given = prices.read(path)
    table = units.load(None)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    clock, cpu = time.perf_counter(), time.process_time()
    made = rate(amounts, given, "2026-11", table)
    clock, cpu = time.perf_counter() - clock, time.process_time() - cpu
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) >> 10
    assert not made.faults
    assert not made.notes
    assert made.not_priced.num_rows == 0
    print(f"{resources:,} resources, {amounts.periods.num_rows:,} stretches, {hours:,} hours of counters")
    print(f"{made.lines.num_rows:,} lines in {clock:.1f} s, {cpu:.1f} s of CPU, {grown:,} MB more")


if __name__ == "__main__":
    main()
