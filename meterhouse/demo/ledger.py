"""Counts what the simulated cloud has sent and the faults that it planted: what a correct pipeline has to find."""

from collections import Counter
from dataclasses import dataclass, field, fields


@dataclass(slots=True)
class Ledger:
    """Exact counts, which grow with every file that is written.

    Attributes:
        messages: lines written: notifications + redelivered + dead_letters.
        notifications: distinct valid messages, including batches of polled samples.
        events: notifications that are not batches of polled samples.
        samples: distinct polled samples (by message_id), including bad, duplicate and late ones.
        not_finite: gauge points whose volume is NaN or infinite.
        out_of_range: points of cpu_util that no machine can have: below 0, or above the load of 8192 processors.
        negative: points of a counter or of memory.usage below 0.
        future: gauge points dated one to three days after the end of the history.
        duplicates: surplus points: pairs of good points of the same series and time, with two values.
        counter_resets: good points of a counter that are below the previous good one; they stay good.
        redelivered: lines that repeat an earlier message exactly.
        dead_letters: lines that are not notifications, all different.
        late: good gauge points of an hour that was written earlier; included in `samples`.
        samples_by_meter: `samples` by meter.
        notifications_by_event_type: `notifications` by event type.
    """

    messages: int = 0
    notifications: int = 0
    events: int = 0
    samples: int = 0
    not_finite: int = 0
    out_of_range: int = 0
    negative: int = 0
    future: int = 0
    duplicates: int = 0
    counter_resets: int = 0
    redelivered: int = 0
    dead_letters: int = 0
    late: int = 0
    samples_by_meter: Counter[str] = field(default_factory=Counter)
    notifications_by_event_type: Counter[str] = field(default_factory=Counter)

    @property
    def excluded(self) -> int:
        """The number of points that break a critical rule. Each breaks exactly one."""
        return self.not_finite + self.out_of_range + self.negative + self.future + self.duplicates

    @property
    def good_points(self) -> int:
        """The number of polled points that count in statistics."""
        return self.samples - self.excluded

    def as_dict(self) -> dict[str, int]:
        """Every count by its name, with `excluded` and `good_points`, without the two breakdowns."""
        counts = {each.name: getattr(self, each.name) for each in fields(self)}
        plain = {name: count for name, count in counts.items() if isinstance(count, int)}
        return {**plain, "excluded": self.excluded, "good_points": self.good_points}
