"""The ids of alarms that are declared in files."""

import uuid

_NAMESPACE = uuid.UUID("6b3f2f0e-8a0f-5d4e-9d51-0d6c7c1b7a10")


def id_of(name: str) -> str:
    """The id of the alarm of this name in `alarms.yaml`: a UUID made from the name, the same on every machine."""
    return str(uuid.uuid5(_NAMESPACE, name))
