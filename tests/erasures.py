"""Two users whose data a site has, what of it must not change, and the erasure of one."""

import io
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from builders import NOON, at, drop, notification, polled, polling, process, roll_up, rows, warehouse_rows

from meterhouse.corrections.changing import propose, record
from meterhouse.erasure.erase import Found, erase
from meterhouse.erasure.recorded import proposed
from meterhouse.site import Site
from meterhouse.usage.names_sync import sync
from meterhouse.usage.periods import compute

ANA, BOB = "b0a1c2d3e4f5061728394a5b6c7d8e9f", "0f1e2d3c4b5a69788796a5b4c3d2e1f0"
NAME, MAIL = "Ana Łopez", "ana@example.com"
OTHERS = {"Bob Builder", "bob@example.com", BOB}

WHY = {"reason": f"{NAME} <{MAIL}> said so", "author": "support"}

FIGURES = {
    "samples": "meter, type, unit, project_id, timestamp, volume",
    "rollups": "granularity_s, bucket, count, sum, min, max, increase, resets, excluded",
    "quarantine": "meter, project_id, timestamp, volume, reasons",
    "events": "message_id, event_type, generated, len(traits) AS traits",
    "notifications": "message_id, event_type, timestamp",
    "dead_letters": "letter_id, queue",
}


def exists(message_id: str, user: str, name: str, mail: str) -> dict[str, Any]:
    """An audit of a server, as Nova sends it, with a user's name, mail and address."""
    message = notification(message_id)
    message["_context_user_id"] = user
    message["_context_user_name"] = name
    message["_context_remote_address"] = f"198.51.100.{len(name)}"
    message["_context_user_identity"] = f"{user} p1 - - -"
    message["payload"] |= {"user_id": user, "display_name": "web-01", "owner": {"id": user, "email": mail}}
    message["payload"] |= {"memory_mb": 512, "vcpus": 2, "state": "active", "instance_type": "m1.small"}
    return message


def messages(since: float = 0) -> list[dict[str, Any]]:
    """Polled samples and audits of two users; counters, and points that rules exclude."""
    made: list[dict[str, Any]] = []
    for n in range(6):
        when, batch = at(since + 25 * n), []
        for user, resource in ((ANA, "ana-vm"), (BOB, "bob-vm"), (ANA, f"account/{ANA}")):
            more = {"resource": resource, "user_id": user, "resource_metadata": {"user_id": user, "n": n // 3}}
            batch.append(polled(10.0 * n, when, meter="cpu", type="cumulative", **more))
            batch.append(polled(-5.0 if n == 2 else 5.0, when, **more))
        made.append(polling(f"polled-{since}-{n}", batch))
        made.append(exists(f"ana-{since}-{n}", ANA, NAME, MAIL))
        made.append(exists(f"bob-{since}-{n}", BOB, "Bob Builder", "bob@example.com"))
    return made


def fill(site: Site) -> None:
    """Land everything that may hold personal data."""
    drop(site.settings.spool, "one.jsonl", [*messages(), {"message_id": "no type", "user": {"id": ANA, "name": NAME}}])
    process(site)
    drop(site.settings.spool, "two.jsonl.gz", messages(600))
    process(site)
    condition = f"user = {ANA} and volume < 0"
    record(site, propose(site, "accept", "cpu_util", NOON, at(60), condition=condition).correction, **WHY)
    roll_up(site)
    compute(site)
    sync(site)
    site.warehouse.record_run("convert", NOON, {"first_errors": [f"m1 meter: {NAME} is no number"]})
    report = io.BytesIO()
    pq.write_table(pa.table({"user_id": [ANA, BOB, None], "hours": [1.0, 2.0, 3.0]}), report)
    site.lake.put("exports/by_user/2026-11-10.parquet", report.getvalue())
    site.lake.put("exports/by_user/2026-11-10.csv", f"user_id,hours\n{ANA},1\n{BOB},2\n".encode())


def figures(site: Site) -> dict[str, list[dict[str, Any]]]:
    """What must not change."""
    found = {name: rows(site, name, columns) for name, columns in FIGURES.items()}
    bill = "project_id, meter, count(*) AS n, sum(volume) AS volume"
    found["bill"] = rows(site, "samples", bill, "true GROUP BY ALL")
    kept = "resource_type, started_at, ended_at, project_id, flavor, state, vcpus, memory_mib, confirmed_by"
    existed = warehouse_rows(site, f"SELECT {kept} FROM resource_periods")
    found["periods"] = [{"row": str(row)} for row in sorted(existed, key=str)]
    for name in ("rollup_1h", "rollup_1d"):
        query = f"SELECT bucket, count, sum, min, max, increase, excluded FROM {name}"
        found[name] = [{"row": str(row)} for row in sorted(warehouse_rows(site, query), key=str)]
    return found


def erase_ana(site: Site, *texts: str) -> Found:
    one = proposed(site, ANA, reason="asked on 1 May", author="dpo")
    return erase(site, one, ANA, texts or (NAME, MAIL))
