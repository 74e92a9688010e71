"""What a hand-over knows of its two QEMUs, and the ways out of it: back to old QEMU, or forward to new."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable
from dataclasses import replace

from virtcpr.actions.monitor import query
from virtcpr.actions.monitor.passthrough import Passthrough
from virtcpr.actions.records.journal import Journal
from virtcpr.actions.transfer import guest_events, libvirt_record, ownership, stale_fds
from virtcpr.actions.transfer.new_qemu import NewQemu, end
from virtcpr.actions.transfer.ownership import ANSWER_SECONDS, END_SECONDS
from virtcpr.actions.transfer.resources import helpers, tcp_ports, vsock
from virtcpr.actions.transfer.resources.taps import Taps
from virtcpr.domain.helpers import virtiofsd
from virtcpr.errors import SETTLE, Ended, HostError, QmpError, RolledBack, Unsettled, VirtcprError
from virtcpr.host.processes import oom
from virtcpr.host.processes.proc import Process
from virtcpr.host.qemu.qmp import Monitor, Qmp
from virtcpr.host.system.paths import PATHS
from virtcpr.host.system.wait import wait_until
from virtcpr.model import Phase, Progress
from virtcpr.plan.placement import Placement
from virtcpr.plan.reconnect import Answers
from virtcpr.plan.steps import State, Step
from virtcpr.plan.transfer.swap import Plan

log = logging.getLogger(__name__)

LOG_SECONDS = 0.5
DELETED = (
    "try again: in a shared directory (virtiofs) the guest most likely had a file open that was deleted, or had "
    "deleted one a moment before; virtiofsd's log says which; if it is so each time, 'lsof +L1' in the guest shows who "
    "has it open"
)


class WaysOut:
    """One guest between two QEMUs, and ``leave``, which says who has it in the end."""

    def __init__(
        self,
        plan: Plan,
        new: NewQemu,
        journal: Journal,
        watch: Callable[[Progress], None],
        daemon: Passthrough,
    ) -> None:
        """``daemon``: libvirt's, which passes on commands to old QEMU."""
        self.plan = plan
        self.new = new
        self.journal = journal
        self.watch = watch
        self.old = Process(plan.pid, plan.started)
        self.committed = False
        self.interruptible = True  # before the point of no return, and not yet on the way back
        self.phases: list[Phase] = []
        self.warnings: list[str] = []
        self.placement: Placement | None = None  # of old QEMU, while it was alive
        self.pause_ms: float | None = None
        self.refusal: str | None = None  # why new can't load the guest's state, in its own words
        self.stopped: str | None = None  # the guest's run state in new, if it had stopped by itself
        self._told = False  # old QEMU's settings may have been changed
        self._paused_after = 0.0  # on the monotonic clock
        self._daemon = daemon
        self._old: Monitor | None = None  # once the daemon is away
        self._new: Monitor | None = None
        self._taps = Taps()
        self._ports: tcp_ports.Noted = ()
        self._taken: list[int] = []  # descriptors of what old's ports are connected to meanwhile
        self._cut_off = False  # the guest's vsock connections were ended
        self._filled: tuple[str, ...] = ()
        self._expected: Answers | None = None

    async def leave(self, step: Step, cause: BaseException) -> None:
        """Roll back, or finish what can't be undone any more, after ``step`` has failed.  Always raises."""
        self.interruptible = False
        try:
            await (self._go_forward if self.committed else self._roll_back)(step, cause)
        finally:
            await self.close()

    async def _roll_back(self, step: Step, cause: BaseException) -> None:
        """Kill new, let old run again, leave nothing behind.  Always raises: RolledBack, Ended or Unsettled."""
        why = cause.message if isinstance(cause, VirtcprError) else "interrupted" if _interrupted(cause) else str(cause)
        output = self.new.words()
        name = self.plan.name
        guest, problems = "is untouched", list[str]()
        try:
            await self._taps.let_go()
            if await self._is_news_alone():
                raise HostError("old QEMU is gone or doesn't answer, and new has all of the guest")
            problems = await asyncio.to_thread(self._end_new)
            if self._old is None and (isinstance(cause, Ended) or not self.old.alive()):
                raise cause if isinstance(cause, Ended) else guest_events.gone(self.plan)
            if not self.old.alive():
                raise HostError("old QEMU has ended, and the guest with it")
            oom.give(self.old, self.journal.entry.oom_score_adj)
            if self._told:  # else libvirt's daemon, which may be busy with it, needn't be asked for anything
                old = await self._reach_old()
                guest = await self._resume(old)
                self._measure()
                await stale_fds.let_go(old, self._filled)
            problems += tcp_ports.give_back(self.old, self._ports)
            self.journal.note(State.ROLLED_BACK)
        except Ended:
            raise
        except Exception as error:
            raise Unsettled(
                f"{name}: '{step.name}' failed ({why}), and rolling back failed, too: {error}; old QEMU is process "
                f"{self.old.pid}",
                hint=SETTLE,
            ) from cause
        later = "" if self.refusal is None else await self._later_words()
        output = output or later
        words = f"; QEMU said: {output}" if output and output not in why else ""
        hint = cause.hint if isinstance(cause, VirtcprError) else None
        if self.refusal is not None:  # its log says more than its answer
            self.refusal += words
            if virtiofsd.has_refused(f"{self.refusal}; {later}"):
                self.refusal, hint = None, DELETED
        raise RolledBack(
            "; ".join([f"{why}{words}", f"the guest {guest} in old QEMU (process {self.old.pid})", *problems]),
            hint=hint or f"see the domain's log in {PATHS.qemu_log}; try again once the cause is removed",
        ) from cause

    async def _later_words(self) -> str:
        """What QEMU said, and old after new was killed: virtlogd writes the log, which takes a moment, and the guest
        runs again by now."""
        return await asyncio.to_thread(wait_until, self.new.words, LOG_SECONDS)

    async def _is_news_alone(self) -> bool:
        """Whether new has all of the guest and old can't get it back: killing new would lose it, so nothing is done.

        Recovery then gives the guest to new, once old is dead.
        """
        if self._new is None or self._old is None or (self.old.alive() and await query.answers(self._old)):
            return False
        return self.new.process.alive() and await query.has_all(self._new)

    async def _reach_old(self) -> Qmp:
        """Old QEMU's own monitor, or libvirt's daemon, as long as that answers.  Raises QmpError."""
        if self._old is not None:
            return self._old
        self._daemon.renew()
        try:
            await query.run_state(self._daemon)
        except QmpError:
            name = f"{self.plan.name} (old QEMU)"
            self._old = await Monitor.connect(self.plan.status.monitor, name, timeout=ANSWER_SECONDS)
            await refuse_stranger(self._old, self.old)
            return self._old
        return self._daemon

    async def _resume(self, old: Qmp) -> str:
        """Let old run the guest again, unless it has stopped by itself.  Returns what it does now.  Raises Ended."""
        if self.stopped is None:
            moved = self._paused_after > 0  # else it was its user who paused it
            guest = await ownership.resume_old(self.plan.guest, old, moved=moved)
        else:  # `cont` would wake a guest that has shut itself down
            await ownership.resume_old(replace(self.plan.guest, runs=False), old)
            guest = f"had stopped ({self.stopped}) and is paused"
        guest += await ownership.put_settings_back(self.plan.guest, old)
        if await query.run_state(old) == "shutdown":
            self.journal.note(State.ROLLED_BACK)
            raise guest_events.shut_down(self.plan)
        return guest

    def _measure(self) -> None:
        """The pause of a guest that was paused for a hand-over, and runs on in old."""
        if self._paused_after and self.plan.runs and self.stopped is None:
            old = there(self._old)
            longest = time.monotonic() - self._paused_after
            self.pause_ms = guest_events.pause(old.happened("STOP"), old.happened("RESUME"), longest)

    def _end_new(self) -> list[str]:
        """Kill new QEMU; give old back what new may have changed.  Returns what of it failed."""
        problems = helpers.give_back(self.plan.helpers)
        if not self.new.process.kill(END_SECONDS):
            raise HostError(f"{self.plan.name}: new QEMU (process {self.new.process.pid}) can't be killed")
        self._taps.restore()
        end(self.new, self.plan)
        libvirt_record.clean_up(self.plan.guest)
        problems += vsock.give_back(self.old, self.journal.entry.cid)
        return [*problems, *([vsock.ENDED] if self._cut_off else [])]

    async def _go_forward(self, step: Step, cause: BaseException) -> None:
        """After the point of no return: old must not outlive this, and libvirt must find new.  Raises Unsettled.

        With two live processes behind one monitor socket, libvirt would take either by chance.
        """
        problems = [f"'{step.name}' failed: {cause}"]
        lost = isinstance(cause, QmpError)  # new may be about to end, too; then only old is left
        if await asyncio.to_thread(self.new.process.ends, ownership.DYING_SECONDS if lost else 0):
            problems.append(f"new QEMU has ended; old (process {self.old.pid}) must not resume if new ever ran")
        elif self._new is not None:  # else libvirt's record is written already
            try:
                await asyncio.to_thread(ownership.end_old, self.plan.guest, self.old)
                await ownership.run_new(self.plan.guest, there(self._new))
                await libvirt_record.write(self.plan.guest, there(self._new), self.new.process)
            except Exception as error:
                problems.append(str(error))
        raise Unsettled(
            f"{self.plan.name}: the guest was handed to new QEMU (process {self.new.process.pid}), then "
            + "; ".join(problems),
            hint=SETTLE,
        ) from cause

    async def close(self) -> None:
        await self._taps.let_go()
        while self._taken:
            os.close(self._taken.pop())
        for monitor in (self._old, self._new):
            if monitor is not None:
                try:
                    await monitor.close()
                except Exception as error:  # what became of the guest is decided already
                    log.warning("%s: closing the monitor: %s", self.plan.name, error)
        self.new.release()


def there(monitor: Monitor | None) -> Monitor:
    assert monitor is not None, "steps run in the order of the plan"
    return monitor


def _interrupted(cause: BaseException) -> bool:
    return isinstance(cause, asyncio.CancelledError | KeyboardInterrupt)


async def refuse_stranger(monitor: Monitor, process: Process) -> None:
    """Check that the monitor belongs to this process.  Raises HostError."""
    if not await query.belongs(monitor, process):
        raise HostError(f"{monitor.name}: another process than {process.pid} answers on its monitor")
