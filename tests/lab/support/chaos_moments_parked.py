"""The moments of a move that is parked at which everything is killed, and who must have the guest afterwards.  Pure."""

from __future__ import annotations

from collections.abc import Iterator

from tests.lab.support.chaos_moments import AGAIN, LOST, NEW, OLD, RESET
from virtcpr.plan.steps import CONNECT, PARK, SETTLE_IN, TAKE, Step


def _of(step: Step) -> Iterator[str]:
    yield f"before {step.name}"
    if step.announce is not None:
        yield f"journal {step.announce.value}"
    if step.name == "load":
        yield "journal received"  # new has the guest, and never ran it


MOMENTS = (
    "after spawn",
    *(moment for step in TAKE for moment in _of(step)),
    "before stop",
    "after stop",
    *(moment for step in (*CONNECT, *PARK, *SETTLE_IN) for moment in _of(step)),
    "journal adopted",
)
ENDED = "before load"  # old QEMU, by then


def since(moment: str, first: str) -> bool:
    """Whether ``moment`` isn't before ``first``, in a move that goes well."""
    return MOMENTS.index(moment) >= MOMENTS.index(first)


def blackout(moment: str) -> bool:
    """libvirt's daemon doesn't run."""
    return since(moment, "after stop")


def alive(moment: str) -> set[str]:
    """Which of the two processes there are; new is one that waits to become QEMU until ``load``."""
    return {"new"} if since(moment, ENDED) else {"old", "new"}


def owners(moment: str, victims: frozenset[str]) -> set[str]:
    """Who may have the guest once it is settled."""
    if "old" in victims:  # from `park` on a keeper has the guest
        return _without_old(moment, victims)
    if "new" in victims:
        if since(moment, "before record"):  # nothing is kept any more
            return {LOST} if since(moment, "before preflight") else {RESET, LOST}
        if since(moment, "before place"):  # what is kept doesn't fit the RAM any more, which QEMU may notice
            return {RESET, LOST}
        # virtcpr can't know whether a `cont` that wasn't answered was heeded.
        may_run = "journal committing" if "virtcpr" in victims else "before commit"
        return {RESET} if since(moment, may_run) else {AGAIN} if since(moment, ENDED) else {OLD}
    if since(moment, "journal received"):
        return {NEW}
    return {AGAIN} if since(moment, ENDED) else {OLD}


def _without_old(moment: str, victims: frozenset[str]) -> set[str]:
    if not since(moment, "before end-old"):
        return {LOST}
    if "virtcpr" not in victims:  # it goes on: it would have ended old next
        return {NEW}
    return {AGAIN} if since(moment, "journal parked") else {LOST, AGAIN}
