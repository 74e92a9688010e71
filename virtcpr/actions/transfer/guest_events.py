"""What a guest does by itself while it is being moved: it shuts down, panics, or has a disk error."""

from __future__ import annotations

from shlex import quote

from virtcpr.actions.monitor import query
from virtcpr.errors import Ended, HostError
from virtcpr.host.qemu.qmp import Qmp
from virtcpr.host.system.paths import PATHS
from virtcpr.plan.transfer.swap import Plan

# Run states (qapi/run-state.json) that a guest gets into by itself, or by its disks; they are handed over as they are.
OWN_STOPS = ("shutdown", "guest-panicked", "io-error", "watchdog", "internal-error")
STAMP_SLACK = 0.001  # s that QEMU's timestamps may differ from our clock


async def as_planned(plan: Plan, old: Qmp) -> None:
    """Check that the guest does what it did when the swap was planned.

    Raises Ended if it has shut itself down, HostError if it has stopped in another way.
    """
    state = await query.run_state(old)
    if state == "shutdown":
        raise shut_down(plan)
    if state != ("running" if plan.runs else "paused"):
        raise HostError(f"{plan.name} is {state} now, which it wasn't when the swap was planned")


def gone(plan: Plan) -> Ended:
    """The error for a guest that was shut down or ended, or whose QEMU died, before anything was done to it."""
    return Ended(
        f"{plan.name} was shut down, or its QEMU (process {plan.pid}) ended, before it could be moved",
        hint=f"virsh domstate --reason {quote(plan.name)} says what happened",
    )


def shut_down(plan: Plan) -> Ended:
    """The error for a guest that has powered itself off: QEMU waits, libvirt's daemon ends it (``-no-shutdown``)."""
    return Ended(
        f"{plan.name}: the guest shut itself down before it could be moved; libvirt ends its QEMU (process {plan.pid})",
        hint=f"virsh domstate --reason {quote(plan.name)}",
    )


def ended_in_new(name: str, pid: int) -> Ended:
    """The error for a guest that was moved and then ended: by itself, or because libvirt's daemon gave it up."""
    return Ended(
        f"{name} was moved, and then the guest shut itself down, or new QEMU (process {pid}) ended otherwise",
        hint=f"virsh domstate --reason {quote(name)} says what happened; the log is {PATHS.qemu_log}/{name}.log",
    )


def pause(stopped: float | None, resumed: float | None, longest: float) -> float | None:
    """How long the guest did not run, in milliseconds, from the timestamps (s) of both processes' events.

    They are of the host's clock, which may be set meanwhile.  None if they can't be right: the pause isn't negative,
    and not longer than the part of the hand-over around it (``longest``, in s).
    """
    if stopped is None or resumed is None or not 0 <= resumed - stopped <= longest + STAMP_SLACK:
        return None
    return round((resumed - stopped) * 1000, 1)
