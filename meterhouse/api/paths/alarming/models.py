"""The objects of the alarm API, for its documentation."""

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

State = Literal["ok", "alarm", "insufficient data"]
Severity = Literal["low", "moderate", "critical"]


def documented_body(model: type[BaseModel]) -> dict[str, Any]:
    """The body that an operation takes, for `openapi_extra` of a route."""
    schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


class TimeConstraint(BaseModel):
    """A span in which an alarm is evaluated."""

    name: str = Field(description="Name, unique within the alarm.")
    description: str = Field("", description="What it is for.")
    start: str = Field(description="Cron expression of five fields: when the spans begin.", examples=["0 23 * * *"])
    duration: int = Field(description="Length of a span in seconds.", ge=0)
    timezone: str = Field("", description="Name of the time zone; empty for UTC.", examples=["Europe/Vienna"])


class AlarmBody(BaseModel):
    """An alarm as a client sends it."""

    model_config = ConfigDict(extra="allow")

    name: str = Field(description="Name; need not be unique.")
    type: str = Field(description="Type of the rule: threshold, combination, composite, event, absence, …")
    threshold_rule: dict[str, Any] | None = Field(
        None, description="The rule. Its attribute is named for the type: event_rule, composite_rule, …"
    )
    description: str | None = Field(None, description="Default: a sentence made from the rule.")
    enabled: bool = Field(True, description="Whether it is evaluated.")
    severity: Severity = Field("low", description="How bad it is.")
    repeat_actions: bool = Field(False, description="Whether the actions of a state are repeated while it lasts.")
    alarm_actions: list[str] = Field([], description="URLs to notify of the state alarm.")
    ok_actions: list[str] = Field([], description="URLs to notify of the state ok.")
    insufficient_data_actions: list[str] = Field([], description="URLs to notify of the state insufficient data.")
    time_constraints: list[TimeConstraint] = Field([], description="When it is evaluated; empty for always.")
    state: State | None = Field(None, description="State to begin with or to set. Default: insufficient data, or kept.")
    project_id: str | None = Field(None, description="Project that owns it. Only an administrator names another's.")
    user_id: str | None = Field(None, description="User that owns it. Only an administrator names another one.")


class AlarmShown(AlarmBody):
    """An alarm."""

    alarm_id: str = Field(description="Id.")
    timestamp: datetime = Field(description="When it was last defined, UTC.")
    state_timestamp: datetime = Field(description="Since when it has its state, UTC.")
    state_reason: str = Field(description="Why it has its state.")
    evaluate_timestamp: datetime | None = Field(description="When it was last evaluated, UTC; null before.")


class Entry(BaseModel):
    """What happened to an alarm."""

    event_id: str = Field(description="Id of the entry.")
    alarm_id: str = Field(description="The alarm.")
    type: str = Field(description="creation, rule change, state transition, state held or deletion.")
    detail: str = Field(description="JSON: the definition, what of it changed, or the new state and its reason.")
    timestamp: datetime = Field(description="When, UTC.")
    user_id: str | None = Field(description="Who did it; null for the evaluation.")
    project_id: str | None = Field(description="Project of whoever did it.")
    on_behalf_of: str | None = Field(description="Project that owns the alarm.")
    severity: Severity | None = Field(description="Severity of the alarm then.")


class Limit(BaseModel):
    """The quota of a resource."""

    resource: Literal["alarms"] = Field(description="What is counted.")
    limit: int = Field(description="Maximum number; -1 for any.", ge=-1)


class Quotas(BaseModel):
    """The quotas of a project."""

    project_id: str = Field(description="The project.")
    quotas: list[Limit] = Field(description="Its quotas.")


class Explanation(BaseModel):
    """What is behind a transition."""

    event_id: str = Field(description="Id of the entry of the history.")
    alarm_id: str = Field(description="The alarm.")
    name: str = Field(description="Its name then.")
    timestamp: datetime = Field(description="When it was evaluated, UTC.")
    state: State = Field(description="Its state from then on.")
    reason: str = Field(description="Why.")
    windows: list[dict[str, Any]] = Field(description="What decided: the periods of each window, and their values.")
    samples: list[dict[str, Any]] = Field(
        description="The samples of the windows that were known then, with the quality rules that each breaks."
    )
    event: dict[str, Any] | None = Field(description="Of an event alarm, the event.")
    alarms: list[str] = Field(description="Of a combination, the alarms that it combines.")


class ComplexQuery(BaseModel):
    """A complex query."""

    filter: str = Field(
        "",
        description='JSON in a text: an object with one operator, such as {"and": [{"=": {"state": "alarm"}}, …]}.',
    )
    orderby: str = Field("", description='JSON in a text: a list such as [{"name": "asc"}].')
    limit: int = Field(100, description="Maximum number of things to answer.", ge=1)
