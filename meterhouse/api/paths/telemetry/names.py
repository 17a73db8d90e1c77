"""Names in paths, with what they mean."""

from typing import Annotated

from fastapi import Path

MeterName = Annotated[str, Path(description="Name of the meter, such as cpu_util.")]
SampleId = Annotated[str, Path(description="Id of the sample, or the message_id that it came with.")]
ResourceId = Annotated[str, Path(description="Id of the resource.")]
MessageId = Annotated[str, Path(description="Id of the event: the message_id of its notification.")]
EventType = Annotated[str, Path(description="Type of events, such as compute.instance.create.end.")]
TraitName = Annotated[str, Path(description="Name of the trait.")]
