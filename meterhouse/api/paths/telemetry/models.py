"""What Ceilometer's paths answer, for the documentation: answers are not made of these models."""

from typing import Any

from pydantic import BaseModel, Field

TIME = "Time, UTC, without a zone, such as 2026-11-20T10:00:00."


class Link(BaseModel):
    """A link."""

    href: str = Field(description="Absolute URL.")
    rel: str = Field(description="What it is: `self`, or the meter whose samples it lists.")


class Versions(BaseModel):
    """The versions of the API."""

    versions: dict[str, list[dict[str, Any]]] = Field(description="`values`: id, status and links of each version.")


class Meter(BaseModel):
    """A meter of a resource."""

    meter_id: str = Field(description="Base64 of resource_id, + and name. A page starts after the marker of this id.")
    name: str = Field(description="Name of the meter.")
    type: str = Field(description="gauge, delta or cumulative.")
    unit: str | None = Field(description="Unit of its volumes.")
    resource_id: str | None = Field(description="The resource; null with `unique`.")
    project_id: str | None = Field(description="Project of its newest sample; null with `unique`.")
    user_id: str | None = Field(description="User of its newest sample; null with `unique`.")
    source: str | None = Field(description="Source of its newest sample; null with `unique`.")


class OldSample(BaseModel):
    """A sample of one meter."""

    counter_name: str = Field(description="Name of the meter.")
    counter_type: str = Field(description="gauge, delta or cumulative.")
    counter_unit: str | None = Field(description="Unit of the volume.")
    counter_volume: float | None = Field(description="The volume; null if it is not a number.")
    resource_id: str | None = Field(description="The resource that was measured.")
    project_id: str | None = Field(description="Its project.")
    user_id: str | None = Field(description="Its user.")
    source: str = Field(description="Where the sample comes from.")
    timestamp: str = Field(description=f"When it was measured. {TIME}")
    recorded_at: str = Field(description=f"When it arrived. {TIME}")
    resource_metadata: dict[str, str] = Field(description="What the resource was, flat; all values are texts.")
    message_id: str = Field(description="Id of the sample.")
    reasons: list[str] | None = Field(None, description="The quality rules that it breaks; only if there are some.")


class Sample(BaseModel):
    """A sample."""

    id: str = Field(description="Id of the sample. A page starts after the marker of this id.")
    meter: str = Field(description="Name of the meter.")
    type: str = Field(description="gauge, delta or cumulative.")
    unit: str | None = Field(description="Unit of the volume.")
    volume: float | None = Field(description="The volume; null if it is not a number.")
    resource_id: str | None = Field(description="The resource that was measured.")
    project_id: str | None = Field(description="Its project.")
    user_id: str | None = Field(description="Its user.")
    source: str = Field(description="Where the sample comes from.")
    timestamp: str = Field(description=f"When it was measured. {TIME}")
    recorded_at: str = Field(description=f"When it arrived. {TIME}")
    metadata: dict[str, str] = Field(description="What the resource was, flat; all values are texts.")
    reasons: list[str] | None = Field(None, description="The quality rules that it breaks; only if there are some.")


class Resource(BaseModel):
    """A resource."""

    resource_id: str = Field(description="Its id.")
    project_id: str | None = Field(description="Project of its newest sample.")
    user_id: str | None = Field(description="User of its newest sample.")
    source: str = Field(description="Where its samples come from.")
    first_sample_timestamp: str | None = Field(description=f"When its first sample was measured. {TIME}")
    last_sample_timestamp: str | None = Field(description=f"When its last sample was measured. {TIME}")
    metadata: dict[str, str] = Field(description="What it is by its newest sample, flat; all values are texts.")
    links: list[Link] = Field(description="A link to itself, and one to the samples of each of its meters.")


class Statistics(BaseModel):
    """Figures of the good points of a period."""

    unit: str | None = Field(description="Unit of the volumes.")
    count: int | None = Field(None, description="Number of points.")
    sum: float | None = Field(None, description="Sum of the volumes.")
    avg: float | None = Field(None, description="Mean of the volumes.")
    min: float | None = Field(None, description="Smallest volume.")
    max: float | None = Field(None, description="Largest volume.")
    aggregate: dict[str, float | None] | None = Field(
        None,
        description="What `aggregate.func` asks for, by function or function/parameter; absent without it.",
    )
    period: int | float = Field(description="Length of the period in seconds; 0 for one of all points.")
    period_start: str = Field(description=f"Start of the period. {TIME}")
    period_end: str = Field(description=f"End of the period. {TIME}")
    duration: float | None = Field(description="Seconds from the first to the last point.")
    duration_start: str | None = Field(description=f"First point, within what was asked for. {TIME}")
    duration_end: str | None = Field(description=f"Last point, within what was asked for. {TIME}")
    groupby: dict[str, str | None] | None = Field(description="What the figures are grouped by, with its values.")


class Trait(BaseModel):
    """A trait of an event."""

    name: str = Field(description="Its name.")
    type: str = Field(description="string, integer, float or datetime.")
    value: str = Field(description="Its value, as text.")


class TraitDescription(BaseModel):
    """A kind of trait."""

    name: str = Field(description="Its name.")
    type: str = Field(description="string, integer, float or datetime.")


class Event(BaseModel):
    """An event."""

    message_id: str = Field(description="Id of the event: that of its notification. A page starts after it.")
    event_type: str = Field(description="Its type, such as compute.instance.create.end.")
    generated: str = Field(description=f"When it happened. {TIME}")
    traits: list[Trait] = Field(description="Its traits.")
    raw: dict[str, Any] = Field(description="The notification, if METERHOUSE_STORE_RAW keeps it; otherwise empty.")


class Capabilities(BaseModel):
    """What the API can do."""

    api: dict[str, bool] = Field(description="What can be asked.")
    storage: dict[str, bool] = Field(description="Of the store of samples.")
    event_storage: dict[str, bool] = Field(description="Of the store of events.")
    alarm_storage: dict[str, bool] = Field(description="Of the store of alarms.")


class ComplexQuery(BaseModel):
    """A complex query. All is optional."""

    filter: str | None = Field(None, description="Text that holds JSON: what has to hold.")
    orderby: str | None = Field(None, description='Text that holds JSON: a list such as [{"timestamp": "desc"}].')
    limit: int | None = Field(None, description="Maximum number of things to answer. Default 100.", ge=1)
