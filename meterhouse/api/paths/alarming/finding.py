"""What is answered when there is no such alarm."""

from collections.abc import Iterator
from contextlib import contextmanager

from meterhouse.alarms.keeping.managed import UnknownPart
from meterhouse.api.answers.faults import MAX_NAME, Fault, sentence
from meterhouse.errors import UnknownName


def unknown_alarm(alarm_id: str) -> Fault:
    """The answer to an id of an alarm that there is not, or that is another project's, as Aodh has it."""
    return Fault(404, f"Alarm {alarm_id[:MAX_NAME]} not found")


@contextmanager
def found(alarm_id: str) -> Iterator[None]:
    """Answer that there is no such alarm, if the block finds none.

    Raises:
        Fault: there is none, or it combines one that there is not: status 404.
    """
    try:
        yield
    except UnknownName:
        raise unknown_alarm(alarm_id) from None
    except UnknownPart as error:
        raise Fault(404, sentence(str(error))) from None
