"""Which process gets the guest after an interrupted swap: the states of both processes in, one verdict out.

``docs/recovery.md`` shows every combination.  The rules:

- before the point of no return old QEMU owns the guest, unless new has all of it and old doesn't run it;
- from there on only new may run it; old never resumes what new may have changed, as both share the RAM;
- if new is gone by then, old's device state is older than the RAM: the guest is reset, as by a power failure;
- a process that doesn't answer loses the guest to a process that has all of it, as it can still be killed.
"""

from __future__ import annotations

from enum import Enum

from virtcpr.plan.steps import State


class Old(Enum):
    """The state of old QEMU."""

    GONE = "gone"
    RUNNING = "running"
    PAUSED = "paused"  # or stopped otherwise, and still has the guest's state
    POSTMIGRATE = "postmigrate"  # handed over; `cont` takes the state back
    SILENT = "silent"  # alive, and its monitor doesn't answer


class New(Enum):
    """The state of new QEMU."""

    GONE = "gone"
    SILENT = "silent"  # alive, and no monitor answers: waiting on the CPR channel, or hung
    INCOMING = "incoming"  # the guest's state hasn't arrived completely
    RECEIVED = "received"  # it has the whole state, and the guest never ran in it
    RUNNING = "running"


class Verdict(Enum):
    """What settles the swap."""

    BACK = "back"  # end new; old runs the guest as before
    FORWARD = "forward"  # end old; new runs the guest, libvirt's record says so
    RESET = "reset"  # new, which may have run, is gone: old runs the guest after a reset
    REVIVE = "revive"  # end new; the build that the guest ran in runs it again, from what the keeper has
    REVIVE_RESET = "revive-reset"  # the same, with a reset: new, which may have run, is gone
    LOST = "lost"  # no process has the guest's state: end what is left
    NOTHING = "nothing"  # already settled
    UNKNOWN = "unknown"  # a process may have the guest but doesn't answer: do nothing


ENDED = (State.DONE, State.ROLLED_BACK)
BEFORE = (State.PLANNED, State.SPAWNED)  # `migrate` was never sent
UNDER_WAY = (State.MIGRATING, State.INCOMING, State.PARKED, State.RECEIVED)
RUNNING_IN_OLD = (*BEFORE, State.MIGRATING)  # nobody but its user can have paused the guest


def verdict(state: State, old: Old, new: New, *, kept: bool = False) -> Verdict:
    """How to settle a swap whose journal says ``state``.  Every combination has an answer.

    ``kept``: a keeper has the guest as old QEMU left it (mode parked); it is never lost then.
    """
    found = _verdict(state, old, new)
    if not kept or found is not Verdict.LOST:
        return found
    return Verdict.REVIVE if state in (*BEFORE, *UNDER_WAY) else Verdict.REVIVE_RESET


def _verdict(state: State, old: Old, new: New) -> Verdict:
    if state in ENDED:
        return _ended(state, old, new)
    if state in BEFORE:
        return Verdict.LOST if old is Old.GONE else Verdict.BACK
    if state in UNDER_WAY:
        return _under_way(old, new)
    return _committed(old, new)


def _ended(state: State, old: Old, new: New) -> Verdict:
    """The journal is complete but not removed; only the process without the guest may be left."""
    if state is State.DONE:
        return Verdict.NOTHING if old is Old.GONE else Verdict.FORWARD
    return Verdict.NOTHING if new is New.GONE else Verdict.BACK


def _under_way(old: Old, new: New) -> Verdict:
    """A process with the whole state keeps the guest if the other process is gone or doesn't run the guest."""
    complete = new in (New.RECEIVED, New.RUNNING)
    if old is Old.GONE:
        return Verdict.FORWARD if complete else Verdict.LOST
    return Verdict.FORWARD if complete and old is not Old.RUNNING else Verdict.BACK


def _committed(old: Old, new: New) -> Verdict:
    if new is New.INCOMING:  # contradicts the journal
        return Verdict.UNKNOWN
    if new is not New.GONE:
        return Verdict.FORWARD
    return {Old.GONE: Verdict.LOST, Old.SILENT: Verdict.UNKNOWN, Old.RUNNING: Verdict.BACK}.get(old, Verdict.RESET)
