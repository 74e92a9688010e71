"""The steps of a swap as data: description, undo, and side of the point of no return."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Side(Enum):
    """A step's side of the point of no return: before it old QEMU can resume, after it only new QEMU may run."""

    BEFORE = "before"
    AT = "at"
    AFTER = "after"


class State(Enum):
    """The journal's states; each is written before its step."""

    PLANNED = "planned"  # new QEMU may be there; old doesn't know of it
    SPAWNED = "spawned"  # old's settings are changed from here on
    MIGRATING = "migrating"  # new makes its devices; the guest runs, and libvirt's daemon, too
    INCOMING = "incoming"  # the daemon is away, and the guest is about to be paused
    PARKED = "parked"  # mode parked: a keeper has the guest, and old QEMU is about to be ended
    RECEIVED = "received"
    COMMITTING = "committing"
    RUNNING = "running"
    ADOPTED = "adopted"
    DONE = "done"
    ROLLED_BACK = "rolled-back"


@dataclass(frozen=True)
class Step:
    """One step.  ``announce`` is the journal's state before it; ``undo`` is what a rollback does (``HandOver`` rolls
    back as a whole)."""

    name: str
    describe: str
    side: Side = Side.BEFORE
    undo: str | None = None
    announce: State | None = None


SPAWN = Step("spawn", "start new QEMU beside the old one; it waits", undo="end-new", announce=State.PLANNED)

# libvirt's daemon is there: it passes on what is said to old QEMU.
MAKE_NEW = (
    Step("arm", "set old QEMU to cpr-transfer and ask it what blocks it", undo="disarm", announce=State.SPAWNED),
    Step(
        "migrate",
        "hand the guest's RAM to new QEMU by descriptor",
        undo="resume-old",
        announce=State.MIGRATING,
    ),
    Step("attach", "connect to new QEMU's monitor", undo="detach"),
    Step("replay", "give new QEMU what its command line can't carry"),
    Step("compare", "ask new QEMU what libvirt will ask it, and compare its answers with old QEMU's"),
    Step("place", "place new QEMU's threads like old QEMU's"),
)

# The daemon is away; the guests run.
CONNECT = (Step("connect", "take over old QEMU's monitor and check that nothing has changed", undo="disconnect"),)

# One guest after the other.
HAND_OVER = (
    Step("incoming", "pause the guest and move its device state", announce=State.INCOMING),
    Step("received", "check that both sides are complete, the guest paused in new QEMU", announce=State.RECEIVED),
    Step("commit", "let new QEMU run the guest", side=Side.AT, announce=State.COMMITTING),
)

# The daemon is still away; the guests run.
FINISH = (
    Step("machined", "let systemd-machined know new QEMU", side=Side.AFTER, announce=State.RUNNING),
    Step("end-old", "end old QEMU", side=Side.AFTER),
    Step("record", "write new QEMU into libvirt's status file", side=Side.AFTER),
    Step("preflight", "check that libvirt will accept new QEMU when its daemon starts", side=Side.AFTER),
)

TRANSFER = (SPAWN, *MAKE_NEW, *CONNECT, *HAND_OVER, *FINISH)

# Mode live: RAM is copied while the daemon is there.
MAKE_COPY = (
    Step("arm", "set old QEMU up to copy the guest and ask it what blocks it", undo="disarm", announce=State.SPAWNED),
    Step("make", "let new QEMU make its devices", undo="end-new", announce=State.MIGRATING),
    *MAKE_NEW[2:],
    Step("copy", "copy the guest's RAM while it runs", undo="cancel"),
)
SWITCH = (
    Step(
        "switch",
        "copy what is left, pause the guest and move its device state",
        undo="resume-old",
        announce=State.INCOMING,
    ),
    *HAND_OVER[1:],
)

LIVE = (SPAWN, *MAKE_COPY, *CONNECT, *SWITCH, *FINISH)

# Mode transfer, parked: old QEMU has ended before new makes a device.  Until then the daemon is there.
TAKE = (
    Step("arm", "set old QEMU to cpr-transfer and ask it what blocks it", undo="disarm", announce=State.SPAWNED),
    Step("migrate", "take the guest's RAM from old QEMU by descriptor", undo="resume-old", announce=State.MIGRATING),
    Step("note", "note what libvirt will ask new QEMU, and where old QEMU's threads are"),
)
# From here on the guest is paused, until `commit`.
PARK = (
    Step("park", "pause the guest and give its state to a keeper", undo="resume-old", announce=State.INCOMING),
    Step("end-old", "end old QEMU", undo="start-old", announce=State.PARKED),
    Step("load", "start new QEMU, and give it what the keeper has", undo="start-old"),
    Step("commit", "let new QEMU run the guest", side=Side.AT, announce=State.COMMITTING),
)
SETTLE_IN = (
    Step("place", "place new QEMU's threads as old QEMU's were", side=Side.AFTER, announce=State.RUNNING),
    *FINISH[2:],
)

PARKED = (SPAWN, *TAKE, *CONNECT, *PARK, *SETTLE_IN)
