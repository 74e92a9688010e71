"""The budget of descriptors of a batch: what virtcpr holds for all of its guests at once, from spawn to the end."""

from __future__ import annotations

from collections.abc import Sequence

from virtcpr.plan.transfer.swap import Plan

KEPT = 1  # of each guest whose new QEMU is made: its monitor
OWN = 64  # the connection to libvirt, the guardian, the lock, logs, the event loop
PARKED = 24  # of each guest that a keeper has: RAM and ROMs, its state, both channels, the keeper's, pipes
MOVING = 16  # of each guest that is being handed over: monitors, process files, taps


def needed(plans: Sequence[Plan], parallel: int) -> int:
    """How many descriptors a batch of these guests has open at most."""
    kept = sum(
        KEPT + PARKED * plan.parked + len(plan.taps) + len(plan.displays) + 2 * len(plan.ports) for plan in plans
    )
    # One after the other.
    spawned = max((len(plan.carried) + 2 * len(plan.bound) + len(plan.opened) for plan in plans), default=0)
    return OWN + MOVING * parallel + kept + spawned


def needed_to_settle(guests: int) -> int:
    """How many descriptors recovery has open at most, which looks at so many guests at once."""
    return OWN + (MOVING + PARKED) * guests


def that_fit(plans: Sequence[Plan], limit: int, parallel: int) -> int:
    """How many of these guests, the first ones, can be moved in one batch within ``limit`` descriptors."""
    return next((n for n in range(len(plans), 0, -1) if needed(plans[:n], parallel) <= limit), 0)
