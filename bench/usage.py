"""Usage and a bill: a month of 100,000 resources from landed notifications, and the day that comes after.

    python bench/usage.py [--resources N] [--rounds N] [--polled] [--quick]

Two resources of five are instances, three are volumes; Nova and Cinder audit each day. Each line is measured in a
process of its own, on a copy of the same site; of several runs, the least seconds are given. Parts of the month:

- evidence and periods: all that was landed is read, and the periods of all resources are computed.
- usage: amounts of the month, from the periods.
- bill: the amounts, rated by four prices.

The day is the month's last: it lands after the rest was computed, and only its notifications are read.

With --polled, pollsters have also asked for the resources, for three meters each, and roll-ups by day say so.

The floor reads the same notifications by bare DuckDB: of each message the id, the type of event, the time, and of its
JSON the resource, project, state and size. It keeps nothing, and computes no period. Amounts are compared with what the
month truly adds up to, to the second; the benchmark fails if they differ.
"""

import argparse
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

from _cloud import BEFORE, DAYS, MONTH, Cloud, Totals, land, poll
from _measured import Clock, Cost, copied, measured, together
from rollup import folder, machine

from meterhouse.pandas_free import keep_pandas_out
from meterhouse.settings import read_settings
from meterhouse.site import Site

END = MONTH + timedelta(days=DAYS)
NAMES = 44

PRICES = """
currency: EUR
time_zone: UTC
prices:
  - {name: vcpu, service: Compute, where: {resource_type: instance}, measure: vcpus, price: 0.012}
  - {name: memory, service: Compute, where: {resource_type: instance}, measure: memory_mib, price: 0.0000031}
  - {name: root disk, service: Compute, where: {resource_type: instance}, measure: root_gib, price: 0.00007}
  - {name: volume, service: Storage, where: {resource_type: volume}, measure: size_gib, price: 0.00012}
"""


def given(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--resources", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=2, help="runs of each kind; the least is shown")
    parser.add_argument("--polled", action="store_true", help="with samples of three meters of each resource")
    parser.add_argument("--quick", action="store_true", help="as little as the tests measure")
    return parser.parse_args(arguments)


def opened(home: Path) -> Site:
    """The site in a folder, with its tables open, so that nothing of the set-up counts."""
    site = Site.open(read_settings(home=home))
    site.lake.table("notifications")
    return site


# -- what is measured, each in a process of its own ----------------------------------------------------------------


def landed(clock: Clock, home: Path, cloud: Cloud, first: int, last: int) -> int:
    """Land some days of the month; return how many notifications."""
    site = opened(home)
    with clock:
        return land(site, cloud, first, last)


def asked(clock: Clock, home: Path, cloud: Cloud) -> int:
    """Write what pollsters have found of the month; return how many series."""
    site = opened(home)
    with clock:
        return poll(site, cloud)


FLOOR = """
SELECT message_id, event_type, timestamp,
       coalesce(body->>'$.payload.instance_id', body->>'$.payload.volume_id') AS resource_id,
       body->>'$.payload.tenant_id' AS project_id,
       coalesce(body->>'$.payload.state', body->>'$.payload.status') AS state,
       coalesce(body->>'$.payload.vcpus', body->>'$.payload.size') AS size
FROM notifications
"""


def floor(clock: Clock, home: Path, after: int) -> int:
    """Read what was landed after a version by bare DuckDB; return how many notifications."""
    site = opened(home)
    known = site.lake.known_files("notifications", after)
    before = set() if known is None else set(known["path"].to_pylist())
    paths = [path for path in site.lake.actions("notifications")["path"].to_pylist() if path not in before]
    with site.lake.connect() as duck, clock:
        site.lake.view(duck, "notifications", [f"{site.lake.uri('notifications')}/{path}" for path in paths])
        duck.execute(f"CREATE OR REPLACE TEMP TABLE found AS {FLOOR}")
        ((count,),) = duck.execute("SELECT count(*) FROM found").fetchall()
    return int(count)


def computed(clock: Clock, home: Path) -> dict[str, Any]:
    """Read the evidence of what was landed, and compute periods."""
    from meterhouse.usage.periods import compute

    site = opened(home)
    with clock:
        return vars(compute(site))


def counted(clock: Clock, home: Path) -> tuple[int, Totals]:
    """The amounts of the month; return how many stretches, and what they add up to."""
    import pyarrow.compute as pc

    from meterhouse.usage.amounts import of_span

    site = opened(home)
    with clock:
        periods = of_span(site, MONTH, END).periods
    length = pc.subtract(periods["ended_at"], periods["started_at"]).cast("int64").to_numpy()
    sums = []
    for name in ("vcpus", "size_gib"):
        sizes = pc.fill_null(periods[name], 0.0).cast("int64").to_numpy()
        sums.append(int((sizes * (length // 1_000_000)).sum()) + int((sizes * (length % 1_000_000)).sum()) / 1e6)
    return periods.num_rows, Totals(*sums)


def rated(clock: Clock, home: Path) -> int:
    """The bill of the month, from its amounts; return how many lines."""
    from meterhouse.billing.rating import rate
    from meterhouse.definitions import prices, units
    from meterhouse.usage.amounts import of_span

    (home / "config").mkdir(exist_ok=True)
    (home / "config" / "prices.yaml").write_text(PRICES)
    site = opened(home)
    amounts = of_span(site, MONTH, END)
    with clock:
        found = rate(amounts, prices.load(home / "config"), f"{MONTH:%Y-%m}", units.load(None))
    if found.faults:
        raise RuntimeError(f"prices.yaml of the benchmark is wrong: {found.faults[0]}")
    return int(found.lines.num_rows)


def version(clock: Clock, home: Path) -> int:
    """The version of the landed notifications."""
    return int(opened(home).lake.version("notifications"))


# -- the table -----------------------------------------------------------------------------------------------------


def line(name: str, count: int, cost: Cost, floor: Cost | None = None) -> None:
    """Print a line of the table."""
    ratios = f"{cost.wall / floor.wall:9.2f}{cost.cpu / floor.cpu:8.2f}" if floor else f"{'':17}"
    rate = f"{count / cost.wall:13,.0f}"
    print(f"{name:{NAMES}}{count:>10,}{cost.wall:9.2f}{cost.cpu:9.2f}{rate}{ratios}{cost.peak_mb:9.0f}", flush=True)


def title(text: str) -> None:
    """Print the head of a table."""
    print(f"\n{text}")
    heads = f"{'of':>10}{'wall s':>9}{'CPU s':>9}{'a second':>13}{'× floor':>9}{'× CPU':>8}{'peak MB':>9}"
    print(f"{'':{NAMES}}{heads}", flush=True)


def chain(home: Path, resources: int, before: int, made: int) -> None:
    """Compute, count and rate in turn, and print a line of each, of all three, and of the floor."""
    least = measured(floor, home, before)
    parts = [("evidence and periods", made, measured(computed, home))]
    usage, bill = measured(counted, home), measured(rated, home)
    parts += [("usage", usage.answer[0], usage), ("bill", bill.answer, bill)]
    line("floor: bare DuckDB reads the notifications", least.answer, least)
    for name, count, cost in parts:
        line(name, count, cost, least)
    line("all three", resources, together(*(cost for _, _, cost in parts)), least)


def main(arguments: list[str]) -> None:
    chosen = given(arguments)
    resources, rounds = (400, 1) if chosen.quick else (chosen.resources, chosen.rounds)
    keep_pandas_out()
    print(machine())
    cloud = Cloud(resources)
    with folder() as place:
        month, spare = place / "month", place / "spare"
        made = measured(landed, month, cloud, -BEFORE, DAYS).answer
        series = measured(asked, month, cloud).answer if chosen.polled else 0
        polled = f", with {series:,} polled series" if series else ""
        for _ in range(rounds):
            title(f"The month of {resources:,} resources but its last day, from scratch{polled}")
            chain(copied(month, spare), resources, 0, made)
        before = measured(version, spare).answer
        day = measured(landed, spare, cloud, DAYS, DAYS + 1).answer
        title("Its last day, after the rest was computed")
        chain(spare, resources, before, day)
        found, truth = measured(counted, spare).answer[1], cloud.totals()
        if found != truth:
            raise SystemExit(f"The amounts are wrong: {found}, but the month adds up to {truth}.")
        print(f"{'exact to the second':{NAMES + 2}}yes")


if __name__ == "__main__":
    main(sys.argv[1:])
