"""A guest whose state is in a file: how to settle an interrupted save or restore.

``docs/recovery.md`` shows every combination.  The rules:

- until the old process is ended it owns the guest; if the guest runs, the file is worthless;
- from then on the guest exists only in the file, until the new process is told to run: the point of no return;
- a process that was never told to run has nothing that the file lacks: it may be ended, and started again;
- once it was told to run, the file must never be used again: the guest may have written to its disks since.
"""

from __future__ import annotations

from enum import Enum


class Stage(Enum):
    """How far it got; each stage is recorded before it begins, except SAVED, which means that the file is complete."""

    SAVING = "saving"  # QEMU may write the state
    SAVED = "saved"  # the file is complete; the old process may be ended
    STARTING = "starting"  # libvirt may start the domain, to wait for its state
    RESUMING = "resuming"  # the new process may run the guest


class Purpose(Enum):
    """Why the state is in a file."""

    UPGRADE = "upgrade"  # the guest continues at once
    SAVE = "save"  # the guest waits for `restore`


class Found(Enum):
    """The state of the domain's process."""

    GONE = "gone"  # no process
    OLD_RUNNING = "old-running"
    OLD_RESTING = "old-resting"  # saved or saving: the guest doesn't run
    NEW_WAITING = "new-waiting"  # the state isn't completely loaded
    NEW_LOADED = "new-loaded"  # the state is loaded, and the guest doesn't run
    NEW_RUNNING = "new-running"
    STRANGER = "stranger"  # somebody else started the domain
    SILENT = "silent"  # there is a process, and it doesn't answer


class Remedy(Enum):
    """What settles it."""

    BACK = "back"  # the guest continues in the old process; remove the file
    WAIT = "wait"  # the guest stays in its file, for `restore`
    RESTORE = "restore"  # libvirt starts the guest again, from the file
    FORWARD = "forward"  # the new process runs the guest; remove the file
    LOST = "lost"  # nothing has the guest's state
    UNKNOWN = "unknown"  # nothing is done


def remedy(stage: Stage, purpose: Purpose, process: Found) -> Remedy:
    """How to settle it.  Every combination has an answer."""
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
    if process is Found.NEW_RUNNING:  # somebody resumed it: its state is complete
        return Remedy.FORWARD
    return Remedy.RESTORE if purpose is Purpose.UPGRADE else Remedy.WAIT
