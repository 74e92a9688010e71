"""Ask a QEMU over its monitor: which process it is, its run state, whether it has loaded the whole guest."""

from __future__ import annotations

from collections.abc import Mapping
from shlex import quote

from virtcpr.domain import qmp
from virtcpr.errors import HostError, QmpError
from virtcpr.host.processes.proc import Process
from virtcpr.host.qemu.qmp import MIGRATION_ENDS, Monitor, Qmp

NOT_DONE = "QEMU isn't done with its migration, whose settings stay as they are"
LOOK_SECONDS = 2.0  # after that, a monitor is busy, waits on the CPR channel, or hangs


async def belongs(monitor: Qmp, process: Process) -> bool:
    """Whether this process answers on the monitor: the vCPUs are threads of it."""
    own = set(qmp.threads(await monitor.execute("query-cpus-fast")).values())
    return bool(own) and own <= process.tasks()


async def run_state(monitor: Qmp) -> str:
    return qmp.text(qmp.obj(await monitor.execute("query-status"))["status"])


async def answers(monitor: Monitor) -> bool:
    """Whether QEMU answers at all.  The guest may be paused, so the time-out is short."""
    patience, monitor.timeout = monitor.timeout, LOOK_SECONDS
    try:
        await monitor.execute("query-status")
    except QmpError:
        return False
    finally:
        monitor.timeout = patience
    return True


async def has_all(new: Monitor) -> bool:
    """Whether new QEMU has the whole guest state; False if it doesn't answer."""
    if not await answers(new):
        return False
    answer = qmp.obj(await new.execute("query-migrate"))
    return qmp.text(answer.get("status")) == "completed"


async def is_migrating(side: Qmp) -> bool:
    """Whether a migration is under way, or QEMU isn't done with the last one: the next would abort it."""
    status = qmp.text(qmp.obj(await side.execute("query-migrate")).get("status"))
    return status not in ("", "none", *MIGRATION_ENDS) or qmp.cleans_up(await side.execute("query-yank"))


async def refuse_migrating(old: Qmp, name: str) -> None:
    """Raises HostError, before anything is set, if another migration needs what is set now."""
    if await is_migrating(old):
        raise busy(name)


def busy(name: str) -> HostError:
    """Somebody else's migration needs what would be set now."""
    hint = f"try again when it is over; virsh domjobinfo {quote(name)} shows it, if it is libvirt's"
    return HostError(f"{name}: QEMU is busy with another migration", hint=hint)


async def set_capabilities(monitor: Qmp, wanted: Mapping[str, bool]) -> None:
    listed = [{"capability": name, "state": state} for name, state in wanted.items()]
    await monitor.execute("migrate-set-capabilities", {"capabilities": listed})
