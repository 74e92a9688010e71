"""The budget of descriptors of a batch: what virtcpr holds for all of its guests at once, from spawn to the end."""

from __future__ import annotations

from collections.abc import Sequence

from virtcpr.plan.transfer import Plan

OWN = 64  # the connection to libvirt, the guardian, the lock, logs, the event loop
MOVING = 16  # of each guest that is being handed over: monitors, process files, taps


def that_fit(plans: Sequence[Plan], limit: int, parallel: int) -> int:
    """How many of these guests, the first ones, can be moved in one batch within ``limit`` descriptors."""
    held = OWN + MOVING * parallel
    for number, plan in enumerate(plans):
        kept = len(plan.taps) + len(plan.displays)
        if held + kept + len(plan.carried) + len(plan.opened) > limit:  # the latter only while it is spawned
            return number
        held += kept
    return len(plans)
