"""What a QEMU says of itself over its monitor: whose it is, what its guest does, whether it has all of its state."""

from __future__ import annotations

from collections.abc import Mapping

from virtcpr.domain import qmp
from virtcpr.errors import QmpError
from virtcpr.host.processes.proc import Process
from virtcpr.host.qemu.qmp import Monitor

LOOK_SECONDS = 2.0  # a monitor that doesn't answer by then is busy, waits on the CPR channel, or hangs


async def belongs(monitor: Monitor, process: Process) -> bool:
    """Whether the process that answers on a monitor is this one: its vCPUs are threads of it."""
    own = set(qmp.threads(await monitor.execute("query-cpus-fast")).values())
    return bool(own) and own <= process.tasks()


async def run_state(monitor: Monitor) -> str:
    return qmp.text(qmp.obj(await monitor.execute("query-status"))["status"])


async def answers(monitor: Monitor) -> bool:
    """Whether its QEMU answers at all; asked while the guest may be paused."""
    patience, monitor.timeout = monitor.timeout, LOOK_SECONDS
    try:
        await monitor.execute("query-status")
    except QmpError:
        return False
    finally:
        monitor.timeout = patience
    return True


async def has_all(new: Monitor) -> bool:
    """Whether new QEMU has all of the guest's state; not so where it doesn't answer."""
    if not await answers(new):
        return False
    answer = qmp.obj(await new.execute("query-migrate"))
    return qmp.text(answer.get("status")) == "completed"


async def set_capabilities(monitor: Monitor, wanted: Mapping[str, bool]) -> None:
    listed = [{"capability": name, "state": state} for name, state in wanted.items()]
    await monitor.execute("migrate-set-capabilities", {"capabilities": listed})
