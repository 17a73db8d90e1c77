"""Runs inside Gnocchi's own virtual environment: posts points, lets metricd aggregate them, says how long it took.

    python _gnocchi_inside.py '{"url": …, "folder": …, "volumes": …, "start": 1793491200, "step": 60}'

`volumes` is a file of NumPy: a row for each series, a column for each minute. All columns but the last are posted in
one batch straight into the incoming driver, which is Gnocchi's fastest way in, and aggregated by metricd with two
workers; then the last column, one point on each series, while they run. The clock of the first runs from the first
batch that the workers have taken away, so that their start does not count; that of the second from its posting.

On stdout: a JSON object for each of the two: `what`, `points`, `posted` (seconds), `seconds` and `cpu` (seconds, of
metricd's processes; PostgreSQL's do not count); and the `bytes` of the aggregates at the end.
"""

import json
import subprocess
import sys
import time
import uuid
from pathlib import Path

import numpy
from _processes import family, seconds
from gnocchi import archive_policy, incoming, indexer, service, storage

CONFIGURATION = """
[DEFAULT]
verbose = false
coordination_url = file://{folder}/coordination
[indexer]
url = {url}
[storage]
driver = file
file_basepath = {folder}/storage
[incoming]
driver = file
file_basepath = {folder}/incoming
[metricd]
workers = 2
metric_processing_delay = 1
metric_reporting_delay = -1
metric_cleanup_delay = 86400
"""
PATIENCE = 600


def pending(inc):
    """How many batches of measures wait."""
    return inc.measures_report(details=False)["summary"]["measures"]


def size(folder):
    """The bytes of the files below a folder."""
    return sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())


def drained(inc, metricd, wanted):
    """Wait until no more than so many batches wait; return the clock and metricd's CPU seconds at that moment."""
    end = time.monotonic() + PATIENCE
    while pending(inc) > wanted:
        if metricd.poll() is not None:
            raise SystemExit(f"gnocchi-metricd ended with {metricd.returncode}")
        if time.monotonic() > end:
            raise SystemExit(f"gnocchi-metricd has not aggregated everything within {PATIENCE} s")
        time.sleep(0.05)
    # A sack's batches are deleted after the aggregates are stored, so this is the end of the work.
    return time.perf_counter(), seconds(*family(metricd.pid))


def post(inc, metrics, volumes, moments):
    """Post a batch of measures for each metric; return the seconds."""
    batch = {
        metric: [incoming.Measure(moment, value) for moment, value in zip(moments, row.tolist(), strict=True)]
        for metric, row in zip(metrics, volumes, strict=True)
    }
    clock = time.perf_counter()
    inc.add_measures_batch(batch)
    return time.perf_counter() - clock


def prepared(job):
    """A new Gnocchi: its folder, configuration file, configuration, indexer and incoming driver."""
    folder = Path(job["folder"])
    (folder / "coordination").mkdir(parents=True)
    config = folder / "gnocchi.conf"
    config.write_text(CONFIGURATION.format(**job))
    conf = service.prepare_service([], default_config_files=[str(config)])
    index, store, inc = indexer.get_driver(conf), storage.get_driver(conf), incoming.get_driver(conf)
    index.upgrade()
    store.upgrade()
    inc.upgrade(128)
    index.create_archive_policy(archive_policy.DEFAULT_ARCHIVE_POLICIES["medium"])
    return folder, config, conf, index, inc


def main(job):
    folder, config, _, index, inc = prepared(job)
    volumes = numpy.load(job["volumes"])
    metrics = [index.create_metric(uuid.uuid4(), "bench", "medium").id for _ in volumes]
    start = numpy.datetime64(job["start"], "s").astype("datetime64[ns]")
    moments = start + numpy.arange(volumes.shape[1]) * numpy.timedelta64(job["step"], "s")
    posted = post(inc, metrics, volumes[:, :-1], moments[:-1])
    log = (folder / "metricd.log").open("wb")
    metricd = subprocess.Popen(
        [str(Path(sys.executable).with_name("gnocchi-metricd")), "--config-file", str(config)], stdout=log, stderr=log
    )
    try:
        began = drained(inc, metricd, len(metrics) - 1)
        report("day", volumes[:, :-1].size, posted, began, drained(inc, metricd, 0), folder)
        began = time.perf_counter(), seconds(*family(metricd.pid))
        posted = post(inc, metrics, volumes[:, -1:], moments[-1:])
        report("live", len(metrics), posted, began, drained(inc, metricd, 0), folder)
    finally:
        metricd.terminate()
        metricd.wait()


def report(what, points, posted, began, ended, folder):
    """Print one line of the result."""
    took, used = (last - first for first, last in zip(began, ended, strict=True))
    stored = size(folder / "storage")
    line = {"what": what, "points": points, "posted": posted, "seconds": took, "cpu": used, "bytes": stored}
    print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
