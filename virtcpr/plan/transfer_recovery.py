"""Who gets the guest when a swap was interrupted: what is seen of both processes in, one verdict out.

``docs/recovery.md`` shows every combination.  The rules:

- before the point of no return the guest is old QEMU's, unless new has all of it and old doesn't run it;
- from there on only new may run it; old never resumes what new may have changed: RAM is one and the same;
- where new is gone by then, old's device state is older than the RAM: the guest is reset, as by a power failure;
- a process that doesn't answer loses the guest to one that has all of it, for it can still be killed.
"""

from __future__ import annotations

from enum import Enum

from virtcpr.plan.steps import State


class Old(Enum):
    """Old QEMU, as it is found."""

    GONE = "gone"
    RUNNING = "running"
    PAUSED = "paused"  # or stopped otherwise, but with its state its own
    POSTMIGRATE = "postmigrate"  # handed over; `cont` takes the state back
    SILENT = "silent"  # alive, and its monitor doesn't answer


class New(Enum):
    """New QEMU, as it is found."""

    GONE = "gone"
    SILENT = "silent"  # alive, and no monitor answers: waiting on the CPR channel, or hung
    INCOMING = "incoming"  # the guest's state isn't, or not all, there
    RECEIVED = "received"  # all of it, and it never ran
    RUNNING = "running"


class Verdict(Enum):
    """What settles the swap."""

    BACK = "back"  # end new; old runs the guest as before
    FORWARD = "forward"  # end old; new runs the guest, libvirt's record says so
    RESET = "reset"  # new, which may have run, is gone: old runs the guest after a reset
    LOST = "lost"  # nobody has the guest's state any more: end what is left
    NOTHING = "nothing"  # it is settled
    UNKNOWN = "unknown"  # a process may have the guest and doesn't answer: nothing is done


ENDED = (State.DONE, State.ROLLED_BACK)
BEFORE = (State.PLANNED, State.SPAWNED)  # `migrate` was never sent
UNDER_WAY = (State.MIGRATING, State.RECEIVED)


def verdict(state: State, old: Old, new: New) -> Verdict:
    """What is to be done about a swap whose journal says ``state``.  Total: every combination has an answer."""
    if state in ENDED:
        return _ended(state, old, new)
    if state in BEFORE:
        return Verdict.LOST if old is Old.GONE else Verdict.BACK
    if state in UNDER_WAY:
        return _under_way(old, new)
    return _committed(old, new)


def _ended(state: State, old: Old, new: New) -> Verdict:
    """The last line was written before the file was removed; only the loser may be left over."""
    if state is State.DONE:
        return Verdict.NOTHING if old is Old.GONE else Verdict.FORWARD
    return Verdict.NOTHING if new is New.GONE else Verdict.BACK


def _under_way(old: Old, new: New) -> Verdict:
    """A process that has all of the guest's state may have it for good, once the other is dead or wasn't given it."""
    complete = new in (New.RECEIVED, New.RUNNING)
    if old is Old.GONE:
        return Verdict.FORWARD if complete else Verdict.LOST
    return Verdict.FORWARD if complete and old is not Old.RUNNING else Verdict.BACK


def _committed(old: Old, new: New) -> Verdict:
    if new is New.INCOMING:  # the journal can't be right
        return Verdict.UNKNOWN
    if new is not New.GONE:
        return Verdict.FORWARD
    return {Old.GONE: Verdict.LOST, Old.SILENT: Verdict.UNKNOWN, Old.RUNNING: Verdict.BACK}.get(old, Verdict.RESET)
