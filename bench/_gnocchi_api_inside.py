"""Runs inside Gnocchi's own virtual environment: aggregates points by metricd, then serves the API on a free port.

    python _gnocchi_api_inside.py job.json

`job.json` has `url`, `folder`, `volumes` (a file of NumPy: a row for each resource, a column for each minute), `owners`
(resource, project and user of each), `meter`, `start` and `step`. The port is printed on stdout once all is aggregated.
"""

import json
import subprocess
import sys
import uuid
from pathlib import Path

import numpy
from _gnocchi_inside import drained, post, prepared
from gnocchi.rest import app
from werkzeug.serving import WSGIRequestHandler, make_server


class Handler(WSGIRequestHandler):
    """Keeps connections open, and writes no log."""

    protocol_version = "HTTP/1.1"

    def log(self, *given, **named):
        """Write nothing."""


def main(job):
    folder, config, conf, index, inc = prepared(job)
    volumes = numpy.load(job["volumes"])
    metrics = []
    for resource, project, user in job["owners"]:
        metric = index.create_metric(uuid.uuid4(), "admin", "medium", name=job["meter"])
        index.create_resource(
            "generic",
            uuid.UUID(resource),
            "admin",
            user,
            project,
            metrics={job["meter"]: metric.id},
            original_resource_id=resource,
        )
        metrics.append(metric.id)
    start = numpy.datetime64(job["start"], "s").astype("datetime64[ns]")
    moments = start + numpy.arange(volumes.shape[1]) * numpy.timedelta64(job["step"], "s")
    post(inc, metrics, volumes, moments)
    with (folder / "metricd.log").open("wb") as log:
        metricd = subprocess.Popen(
            [str(Path(sys.executable).with_name("gnocchi-metricd")), "--config-file", str(config)],
            stdout=log,
            stderr=log,
        )
        try:
            drained(inc, metricd, 0)
        finally:
            metricd.terminate()
            metricd.wait()
    server = make_server("127.0.0.1", 0, app.load_app(conf), threaded=True, request_handler=Handler)
    print(server.server_port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text()))
