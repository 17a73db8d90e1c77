"""The record of polling, in the warehouse: what is polled how often, every task of every slot, and the members.

All functions decide by the warehouse's clock. Each is one short transaction or a few, which may be repeated after an
outage. Any number of members, in threads, processes and machines, may call them at the same time.

A task is `open` (due at `due_at`), then `claimed` by one member until its lease runs out, then `done` or `missed`:

    make_due ─► open ─► claim ─► claimed ─► settle(Finished) ─► done, and open tasks for what is left
                 ▲                  │
                 ├──────────────────┤ settle(Failed): due again after a pause, in the slot
                 ├──────────────────┤ release: the member gives it back
                 └──────────────────┘ make_due: the lease ran out, or the owner died on this host

Every change of hands raises the task's generation. `settle` and `renew` change only tasks that are still the member's,
in the same generation: what a member does after it was paused for longer than its lease changes nothing, unless
nobody has claimed the task meanwhile. But it may have landed samples, or land them later. So a task that was ever lost
is `uncertain`: it is recorded as missed only by a member that has landed an empty batch with the task's message_id
(`overdue`, then `settle(Missed)`), or has found there that the samples had been landed (`settle(Finished)`).
"""

from meterhouse.polling.record.claimed import Claimed, rest_as_json, rest_of_json
from meterhouse.polling.record.claiming import claim, overdue, release, renew
from meterhouse.polling.record.due import make_due
from meterhouse.polling.record.members import Member, beat, join, leave
from meterhouse.polling.record.schedules import Synced, resize, sync
from meterhouse.polling.record.settling import Failed, Finished, Missed, settle

__all__ = [
    "Claimed",
    "Failed",
    "Finished",
    "Member",
    "Missed",
    "Synced",
    "beat",
    "claim",
    "join",
    "leave",
    "make_due",
    "overdue",
    "release",
    "renew",
    "resize",
    "rest_as_json",
    "rest_of_json",
    "settle",
    "sync",
]
