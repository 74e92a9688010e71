"""Save one guest: write its state to a file by cpr-reboot, then end its process.  libvirt's daemon runs.

Until the process is ended, a failure undoes everything, and the guest runs on where it was.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from shlex import quote
from typing import Any, TypeVar

from virtcpr.actions.monitor import reboot
from virtcpr.actions.monitor.query import busy
from virtcpr.actions.reboot import disks, guest
from virtcpr.actions.reboot.guest import asleep, await_gone, forget_saved, go_back
from virtcpr.actions.records import saves
from virtcpr.actions.records.saves import RamFile, Record, Saved
from virtcpr.domain import qmp
from virtcpr.domain.shared_ram import readied
from virtcpr.errors import SETTLE, Ended, HostError, RolledBack, Unsettled, VirtcprError
from virtcpr.host.files import ram_files
from virtcpr.host.libvirt.connection import Domain
from virtcpr.host.processes import kill_paused
from virtcpr.host.processes.proc import Process
from virtcpr.host.qemu.qmp import MIGRATION_ENDS
from virtcpr.host.qemu.stream import Stream
from virtcpr.model import Phase
from virtcpr.plan.reboot.recovery import Purpose, Stage
from virtcpr.plan.reboot.save import RebootPlan

FD = "virtcpr-state"

T = TypeVar("T")


class Turned(Exception):
    """Saving is given up for a reason that is no error: the text says why."""


class Saving:
    """Save one guest to its file.  ``record`` says how far it got."""

    def __init__(
        self, domain: Domain, plan: RebootPlan, purpose: Purpose, enter: Callable[[str], None], stop: Callable[[], bool]
    ) -> None:
        """``enter`` is called with every step; ``stop`` says whether saving must be given up."""
        self.domain, self.plan, self.enter, self.stop = domain, plan, enter, stop
        facts = plan.facts
        assert facts.process is not None
        assert facts.qemu is not None
        self.old = Process(facts.process.pid, facts.process.started)
        status = facts.status
        host, boot = saves.here()
        xml, plain = self._xml()
        self.record = Record(
            Saved(
                name=facts.name,
                uuid=facts.uuid,
                purpose=purpose,
                stage=Stage.SAVING,
                xml=xml,
                plain=plain,
                taints=tuple(sorted(status.taints)),
                runs=facts.state != "paused",
                wake=plan.wake,
                sleeps=facts.qemu.status == "suspended",
                order=facts.id or 0,
                qemu=facts.qemu.version,
                emulator=facts.emulator.path if purpose is Purpose.UPGRADE else None,
                status_path=facts.status_path,
                old_pid=self.old.pid,
                old_started=self.old.started,
                host=host,
                boot=boot,
                saved_at=saves.now(),
                ignores_shared=bool(plan.in_place),
                ram=tuple(self._file(path) for path in plan.in_place),
                return_path="return-path" in facts.qemu.capabilities,
            )
        )
        self.phases: list[Phase] = []
        self.stopped: float | None = None  # when the guest was paused, by the monotonic clock

    def _file(self, path: str) -> RamFile:
        kept = ram_files.aside(path, self.plan.facts.uuid) if path in self.plan.linked else path
        return RamFile(path, kept, ram_files.Identity(0, 0, 0))

    def _xml(self) -> tuple[str, str | None]:
        """From what libvirt starts the domain again; and as it was, if that differs."""
        xml = self.domain.startable_xml()
        return (readied(xml), xml) if self.plan.readies else (xml, None)

    @property
    def name(self) -> str:
        return self.record.saved.name

    def run(self) -> None:
        """Save: the guest's state is in the file afterwards, and its process is gone.

        Raises RolledBack if the guest runs on as before, Ended if it ended by itself, Unsettled if its process
        couldn't be brought back to what it was.
        """
        self._check_as_planned()
        try:
            self.record.write(Stage.SAVING)
            self._step("keep", self._keep)
            if self.plan.wake:
                self._step("suspend", self._suspend)
            saved = self._step("save", self._save)
            files = tuple(replace(file, identity=ram_files.identity(file.kept)) for file in self.record.saved.ram)
            self.record.write(Stage.SAVED, ram=files, **saved)
            self._step("end-old", self._end_old)
        except (VirtcprError, OSError, ValueError, Turned) as error:
            self._give_up(error)
        except Exception as error:  # a defect: the guest must not stay paused
            self._give_up(HostError(f"{self.name}: {type(error).__name__}: {error}"))

    def _step(self, name: str, action: Callable[[], T]) -> T:
        if self.stop():
            raise Turned("interrupted")
        self.enter(name)
        begun = time.monotonic()
        try:
            return action()
        finally:
            self.phases.append(Phase(name, round((time.monotonic() - begun) * 1000, 2)))

    def _check_as_planned(self) -> None:
        """The user was asked whether to go on: libvirt may run the domain in another process by now."""
        if not self.old.alive():
            raise self._ended()
        try:
            now, then = self._status(), self.plan.facts.qemu.status if self.plan.facts.qemu else ""
        except (VirtcprError, OSError) as error:
            raise RolledBack(f"{self.name}: {error}; nothing was done to it", hint="try again") from error
        if now != then:
            raise RolledBack(f"{self.name} is {now} now, and was {then}; nothing was done to it", hint="try again")

    # The steps.

    def _keep(self) -> None:
        for file in self.record.saved.ram:
            if file.linked:
                ram_files.keep(file.path, self.record.saved.uuid, self.old)
            elif not ram_files.has_open(self.old, file.path):  # QEMU says which file it is, and could name any
                raise HostError(f"{self.name}: QEMU (process {self.old.pid}) hasn't opened {file.path} as its RAM")

    def _suspend(self) -> None:
        """Suspend the guest.  Recorded first: recovery then knows that a running guest may be about to suspend."""
        self.record.write(Stage.SAVING, asked=True)
        try:
            self.domain.suspend_to_ram()
        except HostError:
            self._status()  # if libvirt answers, it was refused; if not, nobody knows
            self.record.write(Stage.SAVING, asked=False)
            raise
        if not asleep(self.domain):
            self.record.write(Stage.SAVING, asked=False)
            raise HostError(f"{self.name}: the guest didn't suspend itself within {guest.SUSPEND_SECONDS:g} s")

    def _save(self) -> dict[str, Any]:
        """Pause the guest, and write its state to the file.  Returns what the record says of it."""
        self._arm()
        stream = Stream(self.record.state_path, out=True)
        try:
            self.domain.monitor_with(stream.theirs, "getfd", {"fdname": FD})
            self.stopped = time.monotonic()
            self.domain.monitor(*reboot.migrate(f"fd:{FD}"))
        finally:
            stream.given()
        state = stream.end()
        end, words = guest.migration(self.domain, guest.OVER_SECONDS)
        if end not in MIGRATION_ENDS:
            raise HostError(f"{self.name}: QEMU doesn't end its migration")
        if end != "completed":
            raise HostError(f"{self.name}: QEMU can't save the guest: {words}")
        # Its disks as they are now: if somebody resumes it while the rest is written, and it ends, they tell.
        saved = {"state": state, **self._description()}
        if self.record.saved.purpose is Purpose.SAVE:
            ram_files.write_back(str(self.record.state_path))
            for file in self.record.saved.ram:
                ram_files.write_back(file.kept)  # it is there also if QEMU dies meanwhile: the state is whole
        return saved

    def _description(self) -> dict[str, Any]:
        xml, plain = self.record.saved.xml, self.record.saved.plain
        with suppress(HostError):  # a device may have been plugged or unplugged before the pause
            xml, plain = self._xml()
        return {"xml": xml, "plain": plain, "images": disks.files(xml), "devices": disks.blocks(xml)}

    def _arm(self) -> None:
        """Check what QEMU's status doesn't show, then set QEMU up for the save."""
        assert self.plan.facts.qemu is not None
        had = {memdev.id for memdev in self.plan.facts.qemu.memdevs}
        if {memdev.id for memdev in qmp.memdevs(self.domain.monitor("query-memdev"))} != had:
            raise HostError(f"{self.name}: RAM was attached or detached since this was planned")
        if job := self.domain.job():
            raise HostError(f"{self.name}: libvirt is busy with it ({job})")
        if guest.is_migrating(self.domain):
            raise busy(self.name)
        for command in reboot.save_settings(ignore_shared=self.record.saved.ignores_shared):
            self.domain.monitor(*command)
        reasons = qmp.items(qmp.obj(self.domain.monitor("query-migrate")).get("blocked-reasons", []))
        if reasons:
            raise HostError(f"{self.name}: QEMU refuses: {'; '.join(map(str, reasons))}")

    def _end_old(self) -> None:
        """By SIGKILL: its images are flushed and given up, and an orderly end with discard-data wipes the RAM."""
        vcpus = qmp.threads(self.domain.monitor("query-cpus-fast")).values()
        if not kill_paused.end(self.old, vcpus, lambda: self._status() == "postmigrate", guest.END_SECONDS):
            raise Turned("somebody resumed the guest while it was being saved")
        await_gone(self.domain, self.old)

    def _status(self) -> str:
        return guest.run_state(self.domain)

    # Failure.

    def _give_up(self, cause: Exception) -> None:
        """Always raises, with what became of the guest."""
        if not self.old.alive():
            if self.record.saved.stage is Stage.SAVED:
                raise Unsettled(f"{self.name}: {cause}; its state is saved", hint=SETTLE) from cause
            forget_saved(self.record)
            raise self._ended() from cause
        try:
            now = go_back(self.domain, self.record)
        except (VirtcprError, OSError) as error:
            raise Unsettled(
                f"{self.name}: {cause}; the guest could not be resumed: {error}",
                hint=f"'virsh resume {quote(self.name)}' may do it; then {SETTLE}",
            ) from cause
        hint = getattr(cause, "hint", None) or "try again"
        raise RolledBack(f"{cause}; the guest {now} in old QEMU (process {self.old.pid})", hint=hint) from cause

    def _ended(self) -> Ended:
        return Ended(
            f"{self.name} was shut down, or its QEMU (process {self.old.pid}) ended, before it was saved",
            hint=f"virsh domstate --reason {quote(self.name)} says what happened",
        )
