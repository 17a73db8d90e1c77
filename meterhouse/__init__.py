"""Meterhouse: cloud telemetry as a data pipeline.

The domain lives here and imports no orchestrator: Dagster (`assets/`, `sensors/`), Airflow (`dags/`) and the
command line are thin shells over these functions.
"""

__version__ = "0.1.0"
