"""The moments of an upgrade at which everything is killed, and who must have the guest afterwards.  Pure.

A moment stands before a step, or right after the journal announced a state, before the action that it announces.
"""

from __future__ import annotations

from collections.abc import Iterator

from virtcpr.plan.steps import CONNECT, FINISH, HAND_OVER, MAKE_NEW, Step


def _of(step: Step) -> Iterator[str]:
    yield f"before {step.name}"
    if step.announce is not None:
        yield f"journal {step.announce.value}"


ROLLED_BACK = "journal rolled-back"  # in a swap that was interrupted
MOMENTS = (
    "journal planned",  # the guardian is armed, and new QEMU isn't there yet
    "after spawn",
    *(moment for step in MAKE_NEW for moment in _of(step)),
    "before stop",  # libvirt's daemon runs still
    "after stop",  # nothing keeps anybody yet from starting the daemon
    *(moment for step in (*CONNECT, *HAND_OVER, *FINISH) for moment in _of(step)),
    "journal adopted",
    "before start",
    "after start",
    "journal done",
    ROLLED_BACK,
)
OLD, NEW, RESET, LOST = "old", "new", "reset", "lost"
AGAIN = "again"  # the build that it ran in, in another process (a move that is parked)


def since(moment: str, first: str) -> bool:
    """Whether ``moment`` isn't before ``first``, in a swap that goes well."""
    return moment != ROLLED_BACK and MOMENTS.index(moment) >= MOMENTS.index(first)


def blackout(moment: str) -> bool:
    """libvirt's daemon doesn't run."""
    return moment == ROLLED_BACK or (since(moment, "after stop") and not since(moment, "after start"))


def alive(moment: str) -> set[str]:
    """Which of the two QEMUs there are."""
    there = {"new"} if since(moment, "after spawn") else set()
    return there if since(moment, "before record") else there | {"old"}


def owners(moment: str, victims: frozenset[str]) -> set[str]:
    """Who may have the guest once it is settled.

    Between ``migrate-incoming`` and the end of the migration it may be either: the processes go on while virtcpr
    stands still.
    """
    under_way = since(moment, "before received") and not since(moment, "before commit")
    if "old" in victims:
        return {LOST, NEW} if under_way else {NEW} if since(moment, "before commit") else {LOST}
    if "new" in victims:
        if since(moment, "before record"):
            return {LOST}
        # virtcpr can't know whether a `cont` that wasn't answered was heeded.
        may_run = "journal committing" if "virtcpr" in victims else "before commit"
        return {RESET} if since(moment, may_run) else {OLD}
    if "virtcpr" in victims:
        return {OLD, NEW} if under_way else {NEW} if since(moment, "before commit") else {OLD}
    return _undisturbed(moment, victims)


def _undisturbed(moment: str, victims: frozenset[str]) -> set[str]:
    """virtcpr goes on, and only libvirt's daemon was killed, or started by somebody."""
    if moment == ROLLED_BACK:
        return {OLD}
    if "start" in victims and moment == "after stop":  # it found the daemon running again, and gave up
        return {OLD}
    return {NEW} if since(moment, "after stop") else {OLD, NEW}
