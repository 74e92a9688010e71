"""Give a QEMU the listening sockets of the guest's VNC display."""

from __future__ import annotations

from collections.abc import Sequence

from virtcpr.host.qemu.qmp import Monitor


async def show(new: Monitor, displays: Sequence[int]) -> None:
    """From now on this QEMU accepts viewers on these descriptors; without any nothing changes.  Raises QmpError."""
    names = []
    for number, fd in enumerate(displays):
        names.append(f"virtcpr-display{number}")
        await new.execute("getfd", {"fdname": names[-1]}, fd=fd)
    if names:
        addresses = [{"type": "fd", "str": name} for name in names]
        await new.execute("display-update", {"type": "vnc", "addresses": addresses})
