"""Intake: a simulated day from the spool to samples in the lake, beside the floor of parsing the same bytes.

Prints messages/s and samples/s of each step, and of the floor in the same run.
"""

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

from meterhouse import times
from meterhouse.catalog import catalog
from meterhouse.collection.collect import collect
from meterhouse.conversion.step import convert
from meterhouse.demo.cloud import SimulatedCloud
from meterhouse.settings import read_settings
from meterhouse.site import Site


def timed(step: Callable[..., Any], *arguments: Any) -> tuple[Any, float]:
    """What a step gives, and the seconds it took."""
    clock = time.perf_counter()
    made = step(*arguments)
    return made, time.perf_counter() - clock


def floor(spool: Path) -> int:
    """Read every line, unwrap and parse it, and do nothing with it."""
    lines = 0
    for path in sorted(spool.glob("*.jsonl")):
        for line in path.open("rb"):
            lines += 1
            try:
                message = orjson.loads(line)
                orjson.loads(message["oslo.message"])
            except (ValueError, KeyError, TypeError):
                continue
    return lines


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        site = Site.open(read_settings(home=folder))
        site.lake.version("notifications"), site.lake.version("samples"), site.lake.version("events")
        cloud = SimulatedCloud()
        cloud.write_history(site.settings.spool, times.now().replace(microsecond=0))
        messages, parsing = timed(floor, site.settings.spool)
        collected, collecting = timed(collect, site)
        converted, converting = timed(convert, site)
        _, cataloguing = timed(catalog, site)
    print(f"{collected.messages:,} messages, {collected.bytes / 1e6:,.0f} MB, {converted.samples:,} samples")
    print(f"{'':28}{'seconds':>9}{'messages/s':>12}{'samples/s':>12}")
    whole = collecting + converting + cataloguing
    for name, seconds in (
        ("floor: read and parse", parsing),
        ("collect", collecting),
        ("convert", converting),
        ("catalog", cataloguing),
        ("spool to samples, all three", whole),
    ):
        print(f"{name:28}{seconds:9.2f}{messages / seconds:12,.0f}{converted.samples / seconds:12,.0f}")
    print(f"all three take {whole / parsing:.1f} times the floor")


if __name__ == "__main__":
    main()
