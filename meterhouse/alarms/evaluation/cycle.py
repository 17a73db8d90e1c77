"""A cycle as the schedule and the command run it: event alarms on what came, then all others.

The collecting process evaluates event alarms at once. Here they are caught up, if it was killed, or if a command that
does not evaluate them has brought events.
"""

from meterhouse.alarms.evaluation.evaluate import Evaluated, evaluate
from meterhouse.alarms.evaluation.events import evaluate_events
from meterhouse.alarms.keeping.watched_events import Asked
from meterhouse.errors import Conflict, MeterhouseError
from meterhouse.site import Site


def evaluate_all(site: Site) -> Evaluated:
    """Evaluate event alarms on the events that came, and then every enabled alarm of the other kinds.

    Raises:
        AlreadyRunning: another process is still evaluating the alarms after WAIT_SECONDS.
        LeaseLost: this process was paused, and another one evaluates the alarms; nothing more was written.
        MeterhouseError: the lake or the warehouse cannot be used.
    """
    transitions, notifications, faults = list[tuple[str, str, str]](), 0, list[str]()
    with site.warehouse.read() as connection:
        is_any = Asked().is_any(connection)
    if is_any:
        try:
            came = evaluate_events(site)
            transitions, notifications = came.transitions, came.notifications
        except Conflict:
            raise
        except MeterhouseError as error:  # other alarms do not depend on events
            faults.append(f"event alarms cannot be evaluated: {error}")
    done = evaluate(site)
    done.transitions = transitions + done.transitions
    done.notifications += notifications
    done.faults = faults + done.faults
    return done
