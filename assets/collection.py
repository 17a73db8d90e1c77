"""Collection: notifications off the stream into the lake."""

import dagster as dg

from assets import figures
from assets.resources import RETRIES, SiteResource
from meterhouse import times
from meterhouse.collect import collect


@dg.asset(group_name="collection", kinds={"delta", "python"}, owners=["team:telemetry"], retry_policy=RETRIES)
def notifications(site: SiteResource) -> dg.MaterializeResult[None]:
    """Messages off the stream, landed once each by arrival hour; what is no notification becomes a dead letter."""
    here = site.get()
    done = collect(here, max_seconds=here.settings.collect_seconds)
    waiting = here.stream.backlog()
    return dg.MaterializeResult(
        metadata={
            "messages": done.messages,
            "dagster/row_count": done.landed,
            "redelivered": done.redelivered,
            "dead_letters": done.dead_letters,
            "bytes": done.bytes,
            "messages_per_second": round(done.messages / done.seconds) if done.seconds else 0,
            **figures.of_table(here, "notifications"),
            "files_waiting": waiting.files,
            "bytes_waiting": waiting.bytes,
            "lag_seconds": round((times.now() - waiting.oldest).total_seconds()) if waiting.oldest else 0,
        }
    )
