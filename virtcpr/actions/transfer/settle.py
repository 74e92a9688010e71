"""Settle the interrupted swap of one guest: look at both processes, decide by ``plan.transfer.recovery``, act."""

from __future__ import annotations

import asyncio
import logging
import os
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from shlex import quote

from virtcpr.actions.monitor import query
from virtcpr.actions.records import quarantine
from virtcpr.actions.records.journal import Journal
from virtcpr.actions.transfer import libvirt_record, ownership, place_threads, reconnect_check, settle_quarantined
from virtcpr.actions.transfer.parked.kept import Kept
from virtcpr.actions.transfer.parked.load import load
from virtcpr.actions.transfer.resources import helpers, tcp_ports, vsock
from virtcpr.domain import qmp, status
from virtcpr.errors import HostError, QmpError, VirtcprError
from virtcpr.host.files import atomic
from virtcpr.host.network.tap import TapQueue
from virtcpr.host.processes import oom, proc
from virtcpr.host.processes.keeper import Keeper
from virtcpr.host.processes.proc import Process
from virtcpr.host.qemu import launch
from virtcpr.host.qemu.qmp import Monitor
from virtcpr.host.system.wait import wait_until
from virtcpr.model import Recovered, Settled
from virtcpr.plan import reconnect
from virtcpr.plan.reconnect import Answers
from virtcpr.plan.steps import State
from virtcpr.plan.transfer.recovery import BEFORE, ENDED, RUNNING_IN_OLD, UNDER_WAY, New, Old, Verdict, verdict

log = logging.getLogger(__name__)

STOPPED = ("paused", "prelaunch")
LAUNCH_SECONDS = 1.0
NOT_AGAIN = "the guest can't be started again from what was kept of it"


class Settlement:
    """One domain: look at both processes, decide, act."""

    def __init__(self, record: Journal) -> None:
        self.journal = record
        self.guest = record.entry.guest
        self.old = Process(record.entry.old_pid, record.entry.old_started)
        self.new = self._find_new()
        self._monitors: dict[Process, Monitor] = {}
        self._kept: Kept | None = None

    def _find_new(self) -> Process | None:
        """The process that the journal names; if it was just being started, its command line tells which it is."""
        entry = self.journal.entry
        if entry.new_pid is not None and entry.new_started is not None:
            return Process(entry.new_pid, entry.new_started)
        return proc.with_argv(entry.argv, other_than=entry.old_pid) if entry.argv else None

    async def run(self, *, dry_run: bool) -> Recovered:
        """Never raises: the result says what isn't known."""
        entry = self.journal.entry
        old, new = Old.SILENT, New.SILENT
        try:
            third = self._stranger()
            if third is not None and (self._is_anywhere() or dry_run):
                raise HostError(f"libvirt started the domain again, in process {third}; {self._processes()}")
            await self._connect()
            old, new = await self._look_at_old(), await self._look_at_new()
            self._look_at_keeper()
            decided = verdict(entry.state, old, new, kept=self._kept is not None)
            if third is not None:
                settled, text = self._give_up(third)
            elif dry_run:
                settled, text = Settled.PENDING, f"as it looks now: {decided.value}"
            else:
                settled, text = await self._act(decided)
        except (VirtcprError, OSError) as error:
            settled, text = Settled.UNKNOWN, str(error)
        except Exception as error:  # a defect: the other domains and the daemon must not suffer
            settled, text = Settled.UNKNOWN, f"{type(error).__name__}: {error}"
        finally:
            for monitor in self._monitors.values():
                await monitor.close()
            if self._kept is not None:
                self._kept.close()
        outcome = Recovered(entry.name, entry.uuid, entry.state.value, old.value, new.value, settled, text)
        if settled is Settled.UNKNOWN and not dry_run and self._stranger() is None:
            return settle_quarantined.hold(outcome, Path(self.guest.status_path))
        return outcome

    def end_spawned(self) -> Recovered:
        """End new QEMU.  For the state ``planned``: libvirt's daemon wasn't stopped yet, has old QEMU's monitor, and
        needn't be stopped.  Never raises."""
        entry = self.journal.entry
        try:
            if self.new is None:  # the launcher of a virtcpr that was just killed may execute it yet
                self.new = wait_until(self._find_new, LAUNCH_SECONDS)
            problems = self._end_new()
            libvirt_record.clean_up(self.guest)
            self.journal.close()
        except (VirtcprError, OSError) as error:
            return Recovered(entry.name, entry.uuid, entry.state.value, "", "", Settled.UNKNOWN, str(error))
        settled, text = Settled.NOTHING, "the guest has ended; its new QEMU, which never had it, has ended, too"
        if self.old.alive():
            does = "runs on" if self.guest.runs else "is suspended as before"
            settled = Settled.BACK
            text = "; ".join([f"the guest {does} in old QEMU (process {self.old.pid})", *problems])
        return Recovered(entry.name, entry.uuid, entry.state.value, "", "", settled, text)

    def _stranger(self) -> int | None:
        """A third process in which libvirt runs the domain."""
        try:
            pid = status.read(atomic.read_text(Path(self.guest.status_path))).pid
            known = pid in (self.old.pid, self.new.pid if self.new else None)
            return pid if not known and Process.of(pid).alive() else None
        except (VirtcprError, ValueError):
            return None

    def _is_anywhere(self) -> bool:
        """Whether one of the two processes may have the guest; one that waits to become QEMU hasn't."""
        return self.old.alive() or (self.new is not None and self.new.alive() and not launch.waits(self.new))

    # Looking.

    async def _connect(self) -> None:
        """Open a session with each process that answers.  Both may have the listening socket; each takes one client."""
        alive = [process for process in (self.old, self.new) if process is not None and process.alive()]
        for path in self._sockets(len(alive)):
            try:
                monitor = await Monitor.connect(path, self.guest.name, timeout=query.LOOK_SECONDS)
            except QmpError as error:  # the other process may still answer
                log.debug("%s: %s", self.guest.name, error)
                continue
            try:
                owner = await self._owner(monitor, alive)
            except QmpError as error:
                log.debug("%s: %s", self.guest.name, error)
                owner = None
            if owner is None:
                await monitor.close()
                continue
            monitor.timeout = ownership.ANSWER_SECONDS  # it answers: its commands may take longer
            self._monitors[owner] = monitor

    def _sockets(self, alive: int) -> list[str]:
        """Where their monitors are.  Before `migrate` new has none: don't wait for its greeting."""
        old, new = self.guest.monitor, self.guest.new_monitor
        if self.journal.entry.state in BEFORE:
            return [old]
        if self.new is not None and launch.waits(self.new):  # parked: it isn't a QEMU yet
            return [old]
        # Renamed by now, or new has a copy of old's socket, which takes one client of each.
        return [old, new] if Path(new).exists() and new != old else [old] * alive

    async def _owner(self, monitor: Monitor, processes: list[Process]) -> Process | None:
        """Which process answers on a monitor; None if it is connected already, or a stranger."""
        for process in processes:
            if process not in self._monitors and await query.belongs(monitor, process):
                return process
        return None

    async def _dies(self, process: Process) -> bool:
        """Whether a silent process is about to end: it must not get the guest only because it is still alive."""
        return await asyncio.to_thread(process.ends, ownership.DYING_SECONDS)

    async def _look_at_old(self) -> Old:
        if not self.old.alive():
            return Old.GONE
        monitor = self._monitors.get(self.old)
        if monitor is None:
            return Old.GONE if await self._dies(self.old) else Old.SILENT
        match await query.run_state(monitor):
            case "running":
                return Old.RUNNING
            case "postmigrate" | "finish-migrate":
                return Old.POSTMIGRATE
            case _:
                return Old.PAUSED

    async def _look_at_new(self) -> New:
        if self.new is None or not self.new.alive():
            return New.GONE
        monitor = self._monitors.get(self.new)
        if monitor is None:
            waits = self.journal.entry.state in RUNNING_IN_OLD  # on the CPR channel: silence means nothing
            return New.GONE if not waits and await self._dies(self.new) else New.SILENT
        state = await query.run_state(monitor)
        if state == "inmigrate":
            return New.INCOMING
        if state not in STOPPED:
            return New.RUNNING
        answer = qmp.obj(await monitor.execute("query-migrate"))
        return New.RECEIVED if qmp.text(answer.get("status")) == "completed" else New.INCOMING

    def _look_at_keeper(self) -> None:
        """Get what the keeper has, if there is one.  Raises HostError."""
        if self.journal.entry.keeper is not None and (found := Keeper(Path(self.journal.entry.keeper)).fetch()):
            self._kept = Kept.unpacked(*found)

    # Acting.

    async def _act(self, decided: Verdict) -> tuple[Settled, str]:
        match decided:
            case Verdict.BACK | Verdict.RESET:
                # New never ran a guest that the user has suspended: its state in old is still good.
                return await self._back(reset=decided is Verdict.RESET and self.guest.runs)
            case Verdict.FORWARD:
                return await self._forward()
            case Verdict.REVIVE | Verdict.REVIVE_RESET:
                return await self._revive(reset=decided is Verdict.REVIVE_RESET and self.guest.runs)
            case Verdict.LOST if self.journal.entry.state is State.ADOPTED and not self._on_record():
                self._done()
                return Settled.NOTHING, (
                    "the guest was handed to libvirt in new QEMU, and has ended since: it was shut down, or libvirt "
                    f"gave it up (virsh domstate --reason {quote(self.journal.entry.name)})"
                )
            case Verdict.LOST:
                return await self._lost()
            case Verdict.NOTHING:
                quarantine.put_back(self.journal.entry.uuid, Path(self.guest.status_path))
                self._done()
                return Settled.NOTHING, "it was settled already"
            case Verdict.UNKNOWN:
                return Settled.UNKNOWN, f"nothing was done: {self._processes()}"

    def _processes(self) -> str:
        new = "none" if self.new is None else f"process {self.new.pid}"
        return f"old QEMU is process {self.old.pid}, new is {new}"

    async def _back(self, *, reset: bool) -> tuple[Settled, str]:
        notes = await asyncio.to_thread(self._end_new)  # other guests of the batch may be paused
        oom.give(self.old, self.journal.entry.oom_score_adj)
        notes += self._restore_taps()
        notes += vsock.give_back(self.old, self.journal.entry.cid)
        if self.journal.entry.cid is not None:
            notes.append(vsock.MAY_HAVE_ENDED)
        monitor = self._monitors.get(self.old)
        if monitor is None:  # new may have taken the only session
            monitor = await Monitor.connect(self.guest.monitor, self.guest.name, timeout=ownership.ANSWER_SECONDS)
            self._monitors[self.old] = monitor
            if not await query.belongs(monitor, self.old):
                raise HostError(f"another process than {self.old.pid} answers on the monitor")
        await asyncio.to_thread(self._end_keeper)  # what it has is older than the guest as soon as that runs
        moved = self.journal.entry.state not in RUNNING_IN_OLD
        does = await ownership.resume_old(self.guest, monitor, reset=reset, moved=moved)
        notes += tcp_ports.give_back(self.old, self.journal.entry.ports)
        does += await ownership.put_settings_back(self.guest, monitor)
        path = Path(self.guest.status_path)
        self._give_back(self.old)
        if not path.exists():  # libvirt gave the guest up meanwhile
            atomic.replace_durably(path, self.guest.status_xml)
            atomic.replace_durably(path.with_suffix(".pid"), f"{self.old.pid}\n")
        libvirt_record.clean_up(self.guest)
        notes += await self._preflight(self.old, None)  # libvirt may have changed the guest since
        self._done()
        why = "; it was reset, because new QEMU had it and is gone" if reset else ""
        text = f"the guest {does} in old QEMU (process {self.old.pid}){why}"
        return Settled.BACK, "; ".join([text, *notes])

    def _restore_taps(self) -> list[str]:
        """Undo what new changed when it opened the taps.  Returns what failed: nothing may keep old from resuming."""
        failed = []
        for source, header, offload, *attached in self.journal.entry.taps:
            try:
                fd = self.old.clone_fd(source)
                try:
                    TapQueue(source, fd, header, offload, attached != [0]).restore()
                finally:
                    os.close(fd)
            except (VirtcprError, OSError) as error:
                failed.append(f"its network may be dead until it reboots: {error}")
        return failed

    def _end_new(self) -> list[str]:
        """Raises HostError.  Returns what failed, and needn't keep old from resuming."""
        problems = helpers.give_back(self.guest.helpers)
        if self.new is not None and not self.new.kill(ownership.END_SECONDS):
            raise HostError(f"new QEMU (process {self.new.pid}) can't be killed")
        return problems

    def _give_up(self, third: int) -> tuple[Settled, str]:
        """Neither process is there, and libvirt has started the domain again: what a keeper has is older than the
        disks, and must never run."""
        libvirt_record.clean_up(self.guest)
        kept = self.journal.entry.keeper is not None
        over = self.journal.entry.state in (State.ADOPTED, *ENDED)
        self._done()
        again = f"libvirt started the domain again, in process {third}"
        return Settled.NOTHING if over else Settled.LOST, (
            f"{again}: what was kept of it is given up" if kept else f"{again}; the guest of before has ended"
        )

    def _on_record(self) -> bool:
        """Whether libvirt takes the guest for one of these processes still, or its record is held.  Else the domain may
        have been started since, and have ended again."""
        path, uuid = Path(self.guest.status_path), self.journal.entry.uuid
        if path.exists():
            return True  # of a third process ``_stranger`` knows
        with suppress(VirtcprError, ValueError):
            return bool(quarantine.text(uuid))
        return False

    async def _forward(self) -> tuple[Settled, str]:
        """Kill old before new is told to run: if this is interrupted, the next recovery comes to the same verdict."""
        assert self.new is not None, "no verdict gives the guest to a process that isn't known"
        old, new = self._monitors.get(self.old), self._monitors.get(self.new)
        oom.give(self.new, self.journal.entry.oom_score_adj)
        notes = []
        if old is not None and new is not None:
            notes += (await place_threads.place((self.old, old), (self.new, new))).problems
        await asyncio.to_thread(ownership.end_old, self.guest, self.old)
        if new is None:
            self._record_blindly()
            return Settled.UNKNOWN, f"new QEMU (process {self.new.pid}) has the guest, and doesn't answer"
        notes += await self._run_new(self.new, new)
        return Settled.FORWARD, "; ".join([f"the guest runs in new QEMU (process {self.new.pid})", *notes])

    async def _run_new(self, process: Process, new: Monitor) -> list[str]:
        """Old has ended: let new run the guest, and libvirt find it there.  Returns what isn't as it was."""
        notes = list[str]()
        if self._kept is not None:  # old can't be asked any more where its threads were
            notes += await place_threads.give(self._kept.places, process, new)
            if self.guest.runs and self.journal.entry.state in UNDER_WAY:
                self._outdate_kept()
        if self.journal.entry.reset and await query.run_state(new) in STOPPED:
            await new.execute("system_reset")
            await new.execute("cont")
        # libvirt had it already: who has suspended it since is its user.
        adopted = self.journal.entry.state in (State.ADOPTED, State.DONE)
        await ownership.run_new(replace(self.guest, runs=False) if adopted else self.guest, new)
        notes += await place_threads.lead_machine(self.old, process)
        if self.journal.entry.state is State.ADOPTED:  # libvirt's record may be newer than the journal's
            self._give_back(process)
        await libvirt_record.write(self.guest, new, process)
        notes += await self._preflight(process, self.journal.entry.answers)
        self._done()
        return notes

    def _outdate_kept(self) -> None:
        """What is kept is too old once the guest runs: nobody may resume it from that any more."""
        try:
            self.journal.write(State.COMMITTING)
        except HostError as error:  # the guest must not wait for that
            log.warning("%s", error)
            self._end_keeper()

    def _end_keeper(self) -> None:
        if self.journal.entry.keeper is not None:  # and with it the process that waits for the way back
            Keeper(Path(self.journal.entry.keeper)).end()

    async def _revive(self, *, reset: bool) -> tuple[Settled, str]:
        """Old has ended, and new doesn't have the guest: the build that it ran in gets what the keeper has.

        If this is interrupted, that process is new for the next recovery.
        """
        entry, kept = self.journal.entry, self._kept
        assert kept is not None, "no verdict revives what isn't kept"
        assert entry.spare_pid is not None
        assert entry.spare_started is not None
        spare = Process(entry.spare_pid, entry.spare_started)
        if not launch.waits(spare):  # it was let go, and doesn't have the guest
            return await self._lost(NOT_AGAIN)
        if not self._on_record():
            return await self._lost("libvirt has given the guest up, and may have run it since from its disks")
        if self.new != spare:
            await asyncio.to_thread(self._end_new)
        if not await asyncio.to_thread(self.old.goes, ownership.END_SECONDS):
            raise HostError(f"old QEMU (process {self.old.pid}) was killed, and isn't gone")
        self.new = spare
        self.guest = replace(self.guest, emulator="")  # as libvirt's record says
        self.journal.write(
            State.PARKED,
            guest=self.guest,
            new_pid=spare.pid,
            new_started=spare.started,
            reset=reset or entry.reset,
        )
        oom.give(spare, entry.oom_score_adj)
        try:
            with suppress(BrokenPipeError):  # it has ended, which is seen next
                os.write(kept.go, b"!")
            monitor = await load(self.guest, kept, spare, f"{self.guest.name} (old QEMU again)")
        except (VirtcprError, OSError) as error:  # after a reset most likely: what is kept is older than the RAM
            return await self._lost(f"{NOT_AGAIN}: {error}")
        self._monitors[spare] = monitor
        notes = await self._run_new(spare, monitor)
        why = "; it was reset, because new QEMU had it and is gone" if self.journal.entry.reset else ""
        does = "runs on" if self.guest.runs else "is suspended as before"
        again = f"the guest {does} in the build that it ran in, started again (process {spare.pid}){why}"
        return Settled.BACK, "; ".join([again, *notes])

    async def _preflight(self, process: Process, expected: Answers | None) -> list[str]:
        """See that libvirt will take the guest in this process.  Returns harmless differences; raises HostError."""
        monitor = self._monitors.pop(process, None)
        if monitor is not None:
            await monitor.close()
        problems = await reconnect_check.second(self.guest, process, expected)
        if any(problem.kills for problem in problems):
            raise HostError(
                f"the guest runs in process {process.pid}, but libvirt would kill it: {reconnect.words(problems)}"
            )
        return [problem.text for problem in problems]

    def _give_back(self, process: Process) -> None:
        """Put libvirt's own record back if it is held and names this process, but never a record that can't be read."""
        with suppress(VirtcprError, ValueError):
            if status.read(quarantine.text(self.journal.entry.uuid)).pid == process.pid:
                quarantine.put_back(self.journal.entry.uuid, Path(self.guest.status_path))

    def _done(self) -> None:
        self._end_keeper()
        quarantine.forget(self.journal.entry.uuid)
        self.journal.close()

    def _record_blindly(self) -> None:
        """libvirt must not look for the guest in a process that is gone."""
        assert self.new is not None
        libvirt_record.put_sockets(self.guest)
        change = status.Successor(self.new.pid, {})
        atomic.replace_durably(Path(self.guest.status_path), status.rewrite(libvirt_record.text(self.guest), change))

    async def _lost(self, why: str = "both processes are gone, and the guest with them") -> tuple[Settled, str]:
        await asyncio.to_thread(helpers.end, self.guest.helpers)
        await asyncio.to_thread(self._end_new)
        if not await asyncio.to_thread(self.old.kill, ownership.END_SECONDS):
            raise HostError(f"old QEMU (process {self.old.pid}) can't be killed")
        libvirt_record.clean_up(self.guest)
        quarantine.put_back(
            self.journal.entry.uuid, Path(self.guest.status_path)
        )  # libvirt cleans up after a guest that it finds dead
        self._done()
        return Settled.LOST, f"{why}; start it: virsh start"
