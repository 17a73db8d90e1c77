"""The result of the demo: compares what was planted with what the pipeline found."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import text

from meterhouse.demo.cloud import METERS
from meterhouse.demo.ledger import Ledger
from meterhouse.demo.racks import METER, ROOMS
from meterhouse.queries.sql import sql_on_lake
from meterhouse.site import Site
from meterhouse.stores.duck import quoted

RULES = {
    "not finite": "not_finite",
    "out of range": "out_of_range",
    "negative": "negative",
    "future": "future",
    "duplicates": "duplicate",
    "counter resets": "counter_reset",
}
"""Kind of planted fault → the quality rule that finds it."""


@dataclass(frozen=True)
class Line:
    """One line of the comparison."""

    what: str
    planted: int
    found: int

    @property
    def is_equal(self) -> bool:
        """Whether the numbers planted and found are equal."""
        return self.planted == self.found


def account(site: Site, ledger: Ledger, webhooks: list[str], polls: int) -> list[Line]:
    """Compare what was planted with what was found, for the totals and each kind of fault.

    Args:
        site: the site.
        ledger: what the cloud has sent.
        webhooks: the states that the received webhooks announced, in order.
        polls: how often the racks were polled.
    """
    planted = ledger.as_dict()
    polled = ", ".join(quoted(meter.name) for meter in METERS)

    def lake(statement: str) -> int:
        return int(sql_on_lake(site, statement)[0][0].as_py() or 0)

    def warehouse(statement: str, **values: Any) -> int:
        with site.warehouse.read() as connection:
            return int(connection.execute(text(statement), values).scalar() or 0)

    def flagged(rule: str) -> int:
        return warehouse("SELECT sum(flagged) FROM quality_daily WHERE rule = :rule", rule=rule)

    def step_total(step: str, figure: str) -> int:
        import json

        with site.warehouse.read() as connection:
            rows = connection.execute(text("SELECT figures FROM runs WHERE step = :step"), {"step": step})
            return sum(int(json.loads(row[0])[figure]) for row in rows)

    good = (
        "SELECT sum(r.count) FROM rollup_1h AS r JOIN series AS s ON s.series_id = r.series_id "
        f"WHERE s.meter IN ({polled})"
    )
    of_racks = f"SELECT count(*) FROM samples WHERE meter = {quoted(METER)}"
    return [
        Line("messages", planted["messages"], step_total("collect", "messages")),
        Line("notifications landed", planted["notifications"] + polls, lake("SELECT count(*) FROM notifications")),
        Line("redelivered, landed once", planted["redelivered"], step_total("collect", "redelivered")),
        Line("unparsable, in dead letters", planted["dead_letters"], lake("SELECT count(*) FROM dead_letters")),
        Line("events", planted["events"], lake("SELECT count(*) FROM events")),
        Line("polled samples", planted["samples"], lake(f"SELECT count(*) FROM samples WHERE meter IN ({polled})")),
        Line("samples of polled racks", polls * len(ROOMS), lake(of_racks)),
        Line("slots of polling, each recorded once", polls, warehouse("SELECT count(*) FROM poll_tasks")),
        *(Line(what, planted[what.replace(" ", "_")], flagged(rule)) for what, rule in RULES.items()),
        Line("late points", planted["late"], warehouse("SELECT sum(late) FROM dirty_hours")),
        Line("good points in hourly roll-ups", planted["good_points"], warehouse(good)),
        Line("webhooks of the overload", 1, webhooks.count("alarm")),
        Line("webhooks of the recovery", 1, webhooks.count("ok")),
    ]
