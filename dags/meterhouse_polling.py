"""Polling: what is due, every minute."""

from __future__ import annotations

from typing import Any

from airflow.sdk import dag, task

from meterhouse_daily import DEFAULTS, open_site, plain_errors

ABOUT = """
Polls what `polling.yaml` says and is due, and what becomes due within seconds of that. It claims the same tasks as
members (`meterhouse poll --follow`) and Dagster's runs, so all of them may run together.

- **Scheduled**: every minute. A run without work ends at once.
- **For intervals of a minute and more**: shorter ones are polled by members.

The task returns its figures.
"""

SECONDS = 50.0
"""The next run is due then."""


@dag(dag_id="meterhouse_polling", schedule="* * * * *", doc_md=ABOUT, **{**DEFAULTS, "tags": ["meterhouse"]})
def meterhouse_polling() -> None:
    @task(owner="telemetry", retries=0)  # the next run polls what this one leaves
    def poll() -> dict[str, Any]:
        """Poll what is due."""
        with plain_errors():
            from meterhouse.polling.bounded import poll_for

            return dict(vars(poll_for(open_site(), SECONDS)))

    poll()


meterhouse_polling()
