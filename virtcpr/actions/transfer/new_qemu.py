"""New QEMU, started beside the old one; it makes no device yet, and nothing of the guest is touched."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import time
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from virtcpr.domain.secrets import masked_words
from virtcpr.domain.sockets import beside
from virtcpr.errors import SETTLE, HostError, QmpError, Unsettled
from virtcpr.host.files import atomic
from virtcpr.host.processes import sockets
from virtcpr.host.processes.proc import Process
from virtcpr.host.qemu import listeners
from virtcpr.host.qemu.launch import Launch, launch
from virtcpr.host.system.paths import PATHS
from virtcpr.host.system.wait import wait_until
from virtcpr.model import Mode
from virtcpr.plan.transfer.resources import Bound
from virtcpr.plan.transfer.swap import Plan

READY_SECONDS = 30.0
END_SECONDS = 30.0
LAST_WORDS = 0.05  # s: virtlogd writes QEMU's last output after QEMU is gone
MAX_WORDS = 6  # lines of QEMU's output that a message quotes
MAX_LOG = 1 << 16  # bytes of the log that are read: QEMU may write any amount
LOG_DIR = PATHS.qemu_log

DYING_SECONDS = 0.1
POLL = 0.01  # s between two looks whether a process is alive
LAST_SECONDS = 5.0  # old is gone: new may have all of the guest, and not have loaded it yet
T = TypeVar("T")


@dataclass(frozen=True)
class Spare:
    """Parked: a process that waits, until a byte comes on ``go``, to become the build that the guest ran in.  It ends
    if nobody has ``go`` any more."""

    process: Process
    go: int


@dataclass
class NewQemu:
    """The process that will take over, the descriptors held for it, and where its output in the domain's log begins.

    ``go``: in mode live, and parked, the pipe on which it waits before QEMU is executed; it ends if virtcpr does.
    """

    process: Process
    taps: tuple[tuple[int, int], ...]  # number in old, descriptor here
    displays: tuple[int, ...]
    ports: tuple[tuple[int, int], ...]  # as taps
    log: Path
    log_start: int
    go: int | None = None
    spare: Spare | None = None

    def begin(self) -> None:
        """Execute QEMU; in mode live it makes its devices at once."""
        assert self.go is not None
        with contextlib.suppress(BrokenPipeError):  # it has ended: whoever connects to it will say so
            os.write(self.go, b"!")

    def words(self) -> str:
        """QEMU's last errors in the domain's log since new was started, or nothing; old's are among them."""
        return _words(self.log, self.log_start)

    def release(self) -> None:
        """Close the descriptors held for it here."""
        for fd in (*(fd for _, fd in (*self.taps, *self.ports)), *self.displays):
            os.close(fd)
        self.taps, self.displays, self.ports = (), (), ()
        if self.go is not None:
            os.close(self.go)
            self.go = None
        if self.spare is not None:
            os.close(self.spare.go)
            self.spare = None


def spawn(plan: Plan) -> NewQemu:
    """Start new QEMU and wait until it listens on the CPR channel; in mode live, and parked, until it waits for
    ``begin``.

    Raises HostError, with QEMU's own words, if it doesn't; new is dead then, and nothing is left of it.  Raises
    Unsettled if it can't be ended.
    """
    old = Process(plan.pid, plan.started)
    atomic.remove(plan.cpr_socket, plan.main_socket)
    log = LOG_DIR / f"{plan.name}.log"
    start = log.stat().st_size if log.exists() else 0
    with contextlib.ExitStack() as held, contextlib.ExitStack() as kept:

        def clone(source: int, stack: contextlib.ExitStack) -> int:
            fd = old.clone_fd(source)
            stack.callback(os.close, fd)
            return fd

        fds = {carried.number: clone(carried.source, held) for carried in plan.carried}
        for bound in plan.bound:
            fds[bound.number] = _listener(bound, clone(bound.source, held), plan)
            held.callback(os.close, fds[bound.number])
        for opened in plan.opened:
            fds[opened.number] = _open(opened.path, old)
            held.callback(os.close, fds[opened.number])
        taps = tuple((source, clone(source, kept)) for source in plan.taps)
        displays = tuple(clone(source, kept) for source in plan.displays)
        ports = tuple((source, clone(source, kept)) for source in plan.ports)

        def gate() -> tuple[int, int]:
            """A pipe on which a process waits: its end, and the one that is kept."""
            waits, go = os.pipe()
            held.callback(os.close, waits)
            kept.callback(os.close, go)
            return waits, go

        waits, go = gate() if plan.mode is Mode.LIVE or plan.parked else (None, None)
        process = _launch(Launch(plan.argv, plan.pid, plan.started, fds, go=waits), log, start)
        spare = None
        if plan.parked:
            kept.callback(process.kill, END_SECONDS)
            again, back = gate()
            spare = Spare(_launch_spare(plan, old, fds, again), back)
        kept.pop_all()
    new = NewQemu(process, taps, displays, ports, log, start, go, spare)
    try:
        if go is None:
            _await_listening(new, plan)
    except BaseException as error:
        _end_failed(new, plan, error)
        raise
    return new


def _launch(order: Launch, log: Path, start: int) -> Process:
    """Raises HostError, with QEMU's own words if it ended before anybody could look at it."""
    try:
        return launch(order)
    except HostError as error:
        time.sleep(LAST_WORDS)
        words = _words(log, start)
        raise HostError(f"{error.message}: {words}" if words else error.message, hint=error.hint) from error


def _end_failed(new: NewQemu, plan: Plan, why: BaseException) -> None:
    try:
        end(new, plan)
    except HostError as error:
        raise Unsettled(f"{why}; {error.message}", hint=SETTLE) from why


def _words(log: Path, start: int) -> str:
    """The last errors in a domain's log from there on, or nothing.

    Warnings, such as those about what a later release won't have any more, are no reason for anything.
    """
    try:
        with log.open("rb") as file:
            file.seek(max(start, os.fstat(file.fileno()).st_size - MAX_LOG))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return ""
    messages = (re.sub(r"^\S+Z ", "", line) for line in lines if ": " in line)
    said = (line.partition(": ")[2] for line in messages if line.startswith("qemu"))
    errors = [text for text in said if "warning: " not in text]
    return masked_words("; ".join(dict.fromkeys(errors[-MAX_WORDS:])))


def _launch_spare(plan: Plan, old: Process, fds: Mapping[int, int], waits: int) -> Process:
    """The build that old runs, whose file may be gone from the disk.  Raises HostError."""
    number = max(fds) + 1
    try:
        binary = os.open(old.path / "exe", os.O_RDONLY | os.O_CLOEXEC)
        try:
            atomic.remove(plan.guest.way_back)
            os.symlink(f"/proc/self/fd/{number}", plan.guest.way_back)
            order = Launch(plan.spare, plan.pid, plan.started, {**fds, number: binary}, what="the way back", go=waits)
            return launch(replace(order, program=plan.guest.way_back))
        finally:
            os.close(binary)
    except OSError as error:
        raise HostError(f"{plan.name}: the build that it runs in can't be kept: {error}") from error


def _listener(bound: Bound, olds: int, plan: Plan) -> int:
    """New QEMU's own socket beside old's; a copy of old's (``olds``) if old's can't be reached by its path any more.

    Raises HostError for the monitor then: libvirt would find neither QEMU when its daemon starts, and kill the guest.
    """
    if listeners.is_at(olds, bound.path):
        return listeners.bind(beside(bound.path), bound.path, like=olds)
    if bound.path == plan.status.monitor:
        raise HostError(
            f"{plan.name}: old QEMU's monitor can't be reached at {bound.path} any more",
            hint="shut the domain down and start it: libvirt's daemon itself would lose it at its next start",
        )
    return os.dup(olds)


def _open(path: str, old: Process) -> int:
    """Open again what old QEMU has open, but no path that only its command line names: QEMU may have changed that."""
    if path not in old.fd_targets().values():
        raise HostError(f"old QEMU (process {old.pid}) hasn't opened {path}, which its command line names")
    try:
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise HostError(f"{path} can't be opened: {error.strerror}") from error


def end(new: NewQemu, plan: Plan) -> None:
    """Kill new QEMU and remove what it left.  Raises HostError if it doesn't die: old must not resume then."""
    if not new.process.kill(END_SECONDS):
        raise HostError(f"{plan.name}: new QEMU (process {new.process.pid}) can't be killed")
    with contextlib.suppress(OSError):  # leftovers must not keep old from resuming
        new.release()
        atomic.remove(plan.cpr_socket, plan.main_socket, *map(beside, plan.guest.listeners))


def _await_listening(new: NewQemu, plan: Plan) -> None:
    if not wait_until(lambda: _listens(new, plan), READY_SECONDS):
        raise HostError(f"{plan.name}: new QEMU didn't open the CPR channel within {READY_SECONDS:g} s")


def _listens(new: NewQemu, plan: Plan) -> bool:
    """Whether new has opened the CPR channel by now.  Raises HostError if it has ended instead."""
    with contextlib.suppress(OSError):
        unix, _ = sockets.listeners(new.process, new.process.fd_targets())
        if plan.cpr_socket in unix:
            return True
    if not new.process.alive():
        time.sleep(LAST_WORDS)
        raise HostError(f"{plan.name}: new QEMU ended at once: {new.words() or 'no error in its log'}")
    return False


async def unless_one_dies(action: Coroutine[None, None, T], name: str, old: Process, new: NewQemu) -> T:
    """Await the action, but not beyond the end of either QEMU: without old, new would wait for ever.

    Raises what the action raises, or HostError that says which QEMU ended, with new QEMU's own words.
    """
    task = asyncio.ensure_future(action)
    new_ends, old_ends = (asyncio.create_task(until_ended(process)) for process in (new.process, old))
    try:
        await asyncio.wait((task, new_ends, old_ends), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            await asyncio.wait((task, new_ends), timeout=LAST_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        if task.done() and isinstance(task.exception(), QmpError):
            await asyncio.wait((new_ends,), timeout=DYING_SECONDS)  # its monitor closes before it ends
        for watcher in (new_ends, old_ends):
            if watcher.done():
                watcher.result()  # raises what kept it from watching: that isn't the end of a QEMU
        if not new_ends.done():
            if task.done():
                return await task
            raise HostError(f"{name}: old QEMU ended")
    finally:
        for waiting in (task, new_ends, old_ends):
            waiting.cancel()
    await asyncio.sleep(DYING_SECONDS)  # virtlogd writes QEMU's last output after QEMU is gone
    raise HostError(f"{name}: new QEMU ended: {new.words() or 'no error in its log'}")


async def until_ended(process: Process) -> None:
    """Return when it can't run any more: the kernel tells of its end only when its memory is gone, seconds later."""
    while process.alive():
        await asyncio.sleep(POLL)
