"""A guest whose state is in a file: how far it got, and what is to be done where that was interrupted.

``docs/recovery.md`` shows every combination.  The rules:

- until the old process is ended it owns the guest; if the guest runs, the file is worth nothing;
- from then on the guest is what is in the file, until the new process is told to run: that is the point of no return;
- a process that was never told to run holds nothing that the file doesn't: it may be ended, and started anew;
- once it was told to, the file must never be used again, for the guest may have written to its disks since.
"""

from __future__ import annotations

from enum import Enum


class Stage(Enum):
    """How far it got; each is written before what it announces, but for SAVED, which says that the file is whole."""

    SAVING = "saving"  # QEMU may write the state
    SAVED = "saved"  # the file is whole; the old process may be ended
    STARTING = "starting"  # libvirt may start the domain, to wait for its state
    RESUMING = "resuming"  # the new process may run the guest


class Purpose(Enum):
    """What the state is in a file for."""

    UPGRADE = "upgrade"  # the guest is to go on at once
    SAVE = "save"  # it waits for `restore`


class Found(Enum):
    """The domain's process as it is found."""

    GONE = "gone"  # none runs
    OLD_RUNNING = "old-running"
    OLD_RESTING = "old-resting"  # saved, or saving: its guest doesn't run
    NEW_WAITING = "new-waiting"  # the state isn't, or not all, there
    NEW_LOADED = "new-loaded"  # all of it, and the guest doesn't run
    NEW_RUNNING = "new-running"
    STRANGER = "stranger"  # somebody started the domain otherwise
    SILENT = "silent"  # there is one, and it doesn't answer


class Remedy(Enum):
    """What settles it."""

    BACK = "back"  # the guest goes on in the old process, the file goes
    WAIT = "wait"  # it stays in its file, for `restore`
    RESTORE = "restore"  # libvirt starts it again, from the file
    FORWARD = "forward"  # the new process runs it, the file goes
    LOST = "lost"  # nobody has it any more
    UNKNOWN = "unknown"  # nothing is done


def remedy(stage: Stage, purpose: Purpose, process: Found) -> Remedy:
    """What is to be done.  Total: every combination has an answer."""
    if process in (Found.STRANGER, Found.SILENT):
        return Remedy.UNKNOWN
    if stage is Stage.RESUMING:
        return {Found.NEW_LOADED: Remedy.FORWARD, Found.NEW_RUNNING: Remedy.FORWARD, Found.GONE: Remedy.LOST}.get(
            process, Remedy.UNKNOWN
        )
    if process in (Found.OLD_RUNNING, Found.OLD_RESTING):
        return Remedy.BACK if stage in (Stage.SAVING, Stage.SAVED) else Remedy.UNKNOWN
    if stage is Stage.SAVING:
        return Remedy.LOST if process is Found.GONE else Remedy.UNKNOWN
    if process is Found.NEW_RUNNING:  # somebody resumed it: what it has loaded it has whole
        return Remedy.FORWARD
    return Remedy.RESTORE if purpose is Purpose.UPGRADE else Remedy.WAIT
