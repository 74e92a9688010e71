"""Giving a guest to one of its two processes: what a swap does step by step, and recovery after a swap that died."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from virtcpr.domain import qmp, status
from virtcpr.errors import HostError, ParseError, QmpError
from virtcpr.host.files import atomic
from virtcpr.host.processes.proc import Process
from virtcpr.host.qemu.qmp import Monitor
from virtcpr.plan.guest import Guest

ANSWER_SECONDS = 10.0  # a monitor that is asked
MOVE_SECONDS = 10.0  # the guest's device state: it is paused, and its own watchdogs bark after some 20 s
LOOK_SECONDS = 2.0  # a monitor that doesn't answer by then is busy, waits on the CPR channel, or hangs
END_SECONDS = 30.0
# A process that is killed closes its monitor, and is alive still for an instant: who is lost, is looked at after it.
DYING_SECONDS = 1.0
# libvirt and virsh open what the record names, as root: no path that QEMU makes up.
PTY = re.compile(r"pty:/dev/pts/[0-9]+")
RESERVE = 4096  # bytes that libvirt's record may grow by


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


async def capabilities(monitor: Monitor, wanted: Mapping[str, bool]) -> None:
    listed = [{"capability": name, "state": state} for name, state in wanted.items()]
    await monitor.execute("migrate-set-capabilities", {"capabilities": listed})


async def resume_old(guest: Guest, old: Monitor, *, reset: bool = False, moved: bool = True) -> str:
    """Old QEMU as it was before: no migration under way, running if it ran, mode and capabilities as found.

    It resumes by itself when a migration fails, but not after one that completed (migration/migration.c).  The guest
    first, the settings after: none of them may keep it from running.  With ``reset`` it starts anew; where it was never
    ``moved``, a guest that is paused was paused by its user, and stays so.  Returns what the guest does now.  Raises
    HostError where it doesn't resume.
    """
    answer = qmp.obj(await old.execute("query-migrate"))
    if qmp.text(answer.get("status")) not in ("", "none", "completed", "failed", "cancelled"):
        await old.execute("migrate_cancel")
        await _until_over(old)
    resting = await _rest(old)
    if reset:
        await old.execute("system_reset")
    ours = ("postmigrate", "paused") if moved else ("postmigrate",)
    if guest.runs and resting in ours:  # what stopped for another reason stays so
        await old.execute("cont")
    state = await _rest(old)
    if guest.runs and state in ours:
        raise HostError(f"{old.name} is {state} and doesn't resume")
    await old.execute("migrate-set-parameters", {"mode": "normal"})
    await capabilities(old, {"return-path": guest.return_path})
    if not guest.runs:
        return "is suspended as before"
    return "runs on" if state == "running" else f"is stopped ({state})"


async def _until_over(old: Monitor) -> None:
    """Wait until a migration that was cancelled is over.  Without events: they may have been somebody else's."""
    deadline = time.monotonic() + MOVE_SECONDS
    while qmp.text(qmp.obj(await old.execute("query-migrate")).get("status")) not in (
        "cancelled",
        "failed",
        "completed",
    ):
        if time.monotonic() > deadline:
            raise HostError(f"{old.name} doesn't end its migration")
        await asyncio.sleep(0.005)


async def _rest(old: Monitor) -> str:
    """Its status once it has left finish-migrate: ``cont`` there would be overtaken by the end of the migration."""
    deadline = time.monotonic() + ANSWER_SECONDS
    while (state := await run_state(old)) == "finish-migrate":
        if time.monotonic() > deadline:
            raise HostError(f"{old.name} doesn't finish its migration")
        await asyncio.sleep(0.005)  # QEMU sends no event for this change
    return state


async def run_new(guest: Guest, new: Monitor) -> None:
    """With old dead, new is the only owner: a guest whose ``cont`` got lost is told once more."""
    if guest.runs and await run_state(new) == "paused":
        await new.execute("cont")


def end_old(old: Process) -> None:
    """By SIGKILL: a graceful exit would unlink the sockets, and with discard-data wipe the RAM.  Raises HostError."""
    if not old.kill(END_SECONDS):
        raise HostError(f"old QEMU (process {old.pid}) can't be killed")


async def record(guest: Guest, new: Monitor, process: Process) -> None:
    """Write new QEMU into libvirt's status file and pid file.  Raises HostError; both are whole then."""
    ptys = {
        chardev.label.removeprefix("char"): chardev.filename.removeprefix("pty:")
        for chardev in qmp.chardevs(await new.execute("query-chardev"))
        if PTY.fullmatch(chardev.filename)
    }
    change = status.Successor(
        pid=process.pid,
        vcpus=qmp.threads(await new.execute("query-cpus-fast")),
        ptys=ptys,
        emulator=guest.emulator,
        taints=frozenset(guest.taints),
    )
    path = Path(guest.status_path)
    atomic.replace_durably(path, status.rewrite(status_text(guest), change))
    atomic.replace_durably(path.with_suffix(".pid"), f"{process.pid}\n")
    clean_up(guest)


def status_text(guest: Guest) -> str:
    """libvirt's record of the guest; as it was before the swap where it is gone, or nothing that can be read."""
    try:
        text = atomic.read_text(Path(guest.status_path))
        status.read(text)
    except (HostError, ParseError, ValueError):
        return guest.status_xml
    return text


def reserve(guest: Guest) -> None:
    """Set aside what ``record`` writes, while the guest isn't touched and the daemon runs.  Raises HostError."""
    path = Path(guest.status_path)
    atomic.reserve(path, len(guest.status_xml.encode()) + RESERVE)
    atomic.reserve(path.with_suffix(".pid"), RESERVE)


def clean_up(guest: Guest) -> None:
    """Remove what a swap needs beside the guest: sockets, reserved files."""
    with suppress(OSError):  # left-over sockets harm nobody: the next swap removes them
        atomic.remove(*guest.sockets)
    for path in (Path(guest.status_path), Path(guest.status_path).with_suffix(".pid")):
        atomic.unreserve(path)
