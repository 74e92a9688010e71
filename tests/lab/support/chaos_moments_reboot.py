"""The moments of a save, a restore and an upgrade by mode reboot at which something is killed, and what must have
become of the guest afterwards.  Pure.

A moment stands before or after a step, or right after the record announced a stage.  What is expected is what
``plan.reboot.recovery`` says of the stage and of the process that is there.
"""

from __future__ import annotations

from dataclasses import dataclass

from tests.lab.support.chaos_moments import LOST, NEW, OLD
from virtcpr.plan.reboot.recovery import Found, Purpose, Remedy, Stage, remedy

WAITS = "waits"  # in its file, for `restore`
CALLED = {
    Remedy.BACK: OLD,
    Remedy.WAIT: WAITS,
    Remedy.RESTORE: NEW,
    Remedy.FORWARD: NEW,
    Remedy.LOST: LOST,
    Remedy.UNKNOWN: "unknown",
}


@dataclass(frozen=True)
class Moment:
    """How far it got: ``stage`` None where there is no record, and the domain's process at that moment."""

    name: str
    stage: Stage | None
    found: Found


_AWAY = (
    Moment("before record saving", None, Found.OLD_RUNNING),
    Moment("in record saving", None, Found.OLD_RUNNING),  # its directory is there
    Moment("record saving", Stage.SAVING, Found.OLD_RUNNING),
    Moment("before keep", Stage.SAVING, Found.OLD_RUNNING),
    Moment("in keep", Stage.SAVING, Found.OLD_RUNNING),
    Moment("after keep", Stage.SAVING, Found.OLD_RUNNING),
    Moment("before save", Stage.SAVING, Found.OLD_RUNNING),
    Moment("in save", Stage.SAVING, Found.OLD_RESTING),  # QEMU was told to, and nobody reads it
    Moment("after save", Stage.SAVING, Found.OLD_RESTING),
    Moment("record saved", Stage.SAVED, Found.OLD_RESTING),
    Moment("before end-old", Stage.SAVED, Found.OLD_RESTING),
    Moment("old stopped", Stage.SAVED, Found.OLD_RESTING),  # by SIGSTOP, and not killed yet
    Moment("after end-old", Stage.SAVED, Found.GONE),
)
_BACK = (
    Moment("before record starting", Stage.SAVED, Found.GONE),
    Moment("record starting", Stage.STARTING, Found.GONE),
    Moment("before start", Stage.STARTING, Found.GONE),
    Moment("before create", Stage.STARTING, Found.GONE),  # all is ready for libvirt and its hook
    Moment("in create", Stage.STARTING, Found.NEW_WAITING),  # libvirt is at it
    Moment("after create", Stage.STARTING, Found.NEW_WAITING),
    Moment("after start", Stage.STARTING, Found.NEW_WAITING),
    Moment("before load", Stage.STARTING, Found.NEW_WAITING),
    Moment("in load", Stage.STARTING, Found.NEW_WAITING),  # QEMU was told to, and gets nothing
    Moment("after load", Stage.STARTING, Found.NEW_LOADED),
    Moment("record resuming", Stage.RESUMING, Found.NEW_LOADED),
    Moment("before resume", Stage.RESUMING, Found.NEW_LOADED),
    Moment("before finish", Stage.RESUMING, Found.NEW_RUNNING),
    Moment("in finish", None, Found.NEW_RUNNING),  # its directory is there still
    Moment("after finish", None, Found.NEW_RUNNING),
    Moment("after resume", None, Found.NEW_RUNNING),
    Moment("before strip", None, Found.NEW_RUNNING),
    Moment("in strip", None, Found.NEW_RUNNING),  # libvirt's daemon is down
    Moment("after strip", None, Found.NEW_RUNNING),
)
MOMENTS = {"save": _AWAY, "restore": _BACK, "upgrade": (*_AWAY, *_BACK)}
NAMES = tuple(moment.name for moment in MOMENTS["upgrade"])


def moment_of(command: str, name: str) -> Moment:
    return next(moment for moment in MOMENTS[command] if moment.name == name)


def alive(moment: Moment) -> str:
    """Which QEMU there is, and has been for a while: old, new, or none (\"\")."""
    if moment.name == "in create":
        return ""
    return moment.found.value.partition("-")[0] if moment.found is not Found.GONE else ""


def end(command: str, moment: Moment, victims: tuple[str, ...]) -> str:
    """What must have become of the guest once all is settled, whoever goes on: virtcpr, or somebody after it."""
    killed = bool({"old", "new"} & set(victims))
    if moment.stage is None:
        return LOST if killed else OLD if alive(moment) == "old" else NEW
    purpose = Purpose.UPGRADE if command == "upgrade" else Purpose.SAVE
    stage, found = moment.stage, Found.GONE if killed else moment.found
    if "virtcpr" not in victims:  # it goes on, before it notices anything: announces a stage, or kills
        stage = Stage.SAVED if moment.name == "after save" else stage
        stage = Stage.RESUMING if moment.name == "after load" and not killed else stage
        found = Found.GONE if moment.name == "old stopped" else found
    return CALLED[remedy(stage, purpose, found)]
