"""Restore one guest: libvirt starts its domain again, paused, and new QEMU loads the state from the file.

Until new QEMU is told to run the guest, it holds nothing that the file doesn't: on failure it is ended, and the file
waits.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from shlex import quote
from typing import TypeVar

from virtcpr.actions.monitor import reboot
from virtcpr.actions.monitor.query import NOT_DONE
from virtcpr.actions.reboot import disks, guest, validate
from virtcpr.actions.reboot.guest import POLL, await_gone, restore_settings
from virtcpr.actions.reboot.save_guest import FD
from virtcpr.actions.records import pending_strips, saves
from virtcpr.actions.records.saves import Record, Saved
from virtcpr.domain import qmp, restart
from virtcpr.domain.facts import Emulator
from virtcpr.domain.restart import WAITING
from virtcpr.domain.status import read
from virtcpr.errors import SETTLE, HostError, Unsettled, VirtcprError
from virtcpr.host.files import ram_files
from virtcpr.host.files.atomic import read_text
from virtcpr.host.libvirt.connection import Connection, Domain
from virtcpr.host.processes import kill_paused
from virtcpr.host.processes.proc import Process
from virtcpr.host.qemu.qmp import MIGRATION_ENDS
from virtcpr.host.qemu.stream import Stream, digest
from virtcpr.model import Phase
from virtcpr.plan.reboot.recovery import Stage

OVER_SECONDS = 10.0
RESTS = ("inmigrate", "paused", "prelaunch")  # QEMU's run states of a guest that wasn't told to run

T = TypeVar("T")


class Restoring:
    """Restore one guest from its file."""

    def __init__(
        self, connection: Connection, record: Record, emulator: Emulator, enter: Callable[[str], None]
    ) -> None:
        self.connection, self.record, self.emulator, self.enter = connection, record, emulator, enter
        self.domain: Domain | None = None
        self.new: Process | None = None
        self.phases: list[Phase] = []
        self.resumed: float | None = None  # when the guest went on, by the monotonic clock

    @property
    def name(self) -> str:
        return self.record.saved.name

    def run(self, *, read: bool | None = None, trusted: bool = False) -> None:
        """Restore: the guest runs in new QEMU, and the record is gone; what made it wait is in ``pending_strips``.

        With ``read`` the state is checked before anything is started, else while it is loaded.  By default a state
        without the RAM is read before: it is small, and loading it changes the RAM.  ``trusted``: disks of which
        nobody can tell are taken for unchanged.  Raises HostError if nothing is left running and the file waits (Unfit:
        nothing was started), Unsettled if that isn't sure.
        """
        before = bool(self.record.saved.ram) if read is None else read
        try:
            end_new(self.connection, self.record.saved)
        except (VirtcprError, OSError) as error:
            raise HostError(f"{error}; its state is kept in {self.record.directory}", hint=SETTLE) from error
        try:
            validate.look(self.record, self.emulator, read=before, trusted=trusted)
            self.record.write(Stage.STARTING)
            self._step("start", self._start)
            self._step("load", self._load)
            assert self.new is not None
            if not self.new.alive():  # from RESUMING on, its end is the guest's
                raise HostError(f"{self.name}: new QEMU (process {self.new.pid}) has ended")
            self.record.write(Stage.RESUMING, new_pid=self.new.pid, new_started=self.new.started)
        except (VirtcprError, OSError, ValueError) as error:
            self._give_up(error)
        except Exception as error:  # a defect: nothing of the domain may be left running
            self._give_up(HostError(f"{self.name}: {type(error).__name__}: {error}"))
        self._step("resume", self._resume)

    def _step(self, name: str, action: Callable[[], T]) -> T:
        self.enter(name)
        begun = time.monotonic()
        try:
            return action()
        finally:
            self.phases.append(Phase(name, round((time.monotonic() - begun) * 1000, 2)))

    # The steps.

    def _start(self) -> None:
        saved = self.record.saved
        document = restart.waiting(saved.xml, saved.emulator)
        linked = [file for file in saved.ram if file.linked]
        pending_strips.note(saved)
        ram_files.announce(saved.uuid, str(Path(linked[0].kept).parent) if linked else "")
        try:
            self.domain = self.connection.start_paused(document)
        except HostError as error:
            raise HostError(f"{self.name} can't be started on {self.emulator.path}: {error.message}") from error
        finally:
            ram_files.started(saved.uuid)
        self.new = Process.of(read(read_text(Path(saved.status_path))).pid)
        for file in saved.ram:
            if not ram_files.has_open(self.new, file.kept):
                raise HostError(
                    f"{self.name}: new QEMU has other RAM than {file.kept}: libvirt didn't run virtcpr's hook",
                    hint="see 'virtcpr hooks status'; libvirt's daemon finds a new hook when it starts",
                )

    def _load(self) -> None:
        assert self.domain is not None
        saved = self.record.saved
        for command in reboot.load_settings(ignore_shared=saved.ignores_shared):
            self.domain.monitor(*command)
        stream = Stream(self.record.state_path, out=False)
        try:
            self.domain.monitor_with(stream.theirs, "getfd", {"fdname": FD})
            self.domain.monitor(*reboot.incoming(f"fd:{FD}", self.emulator))
        finally:
            stream.given()
        loaded = stream.end()
        changed = HostError(
            f"{self.name}: its state was changed since it was saved: the checksum differs",
            hint=saves.DISCARD.format(name=quote(self.name)),
        )
        try:
            self._over()
        except HostError as error:  # it doesn't read on then
            if loaded != saved.state and digest(self.record.state_path) != saved.state:
                raise changed from error
            raise
        if loaded != saved.state:
            raise changed

    def _over(self) -> None:
        """Wait until QEMU has loaded the state.  Raises HostError with QEMU's words if it can't."""
        assert self.domain is not None
        end, words = guest.migration(self.domain, OVER_SECONDS)
        if end not in MIGRATION_ENDS:
            raise HostError(f"{self.name}: QEMU doesn't load its state")
        if end != "completed":
            words = words or "it doesn't say why"
            raise HostError(
                f"{self.name}: QEMU {self.emulator.version} can't load its state: {words}",
                hint=f"install a QEMU that can, such as the one that wrote it ({self.record.saved.qemu}); then "
                f"'virtcpr restore {quote(self.name)}'",
            )
        state = qmp.text(qmp.obj(self.domain.monitor("query-status")).get("status"))
        if state not in ("paused", "prelaunch"):
            raise HostError(f"{self.name}: QEMU is {state} after it has loaded the state")

    def _resume(self) -> None:
        """Raises Unsettled: from here on the file must not be used again."""
        assert self.domain is not None
        try:
            resume(self.domain, self.record.saved)
            self.resumed = time.monotonic()
            finish(self.domain, self.record)
        except (VirtcprError, OSError) as error:
            raise Unsettled(f"{self.name}: {error}; new QEMU has the guest", hint=SETTLE) from error

    # Failure.

    def _give_up(self, cause: Exception) -> None:
        """Always raises; nothing of the domain runs, and the file waits."""
        hint = getattr(cause, "hint", None) or f"virtcpr restore {quote(self.name)}"
        saved = self.record.saved
        try:
            end_new(self.connection, saved)
            if isinstance(cause, validate.Unfit):  # what it differs from must stay on record
                if saved.stage is not Stage.SAVED:
                    self.record.write(Stage.SAVED)
                    pending_strips.drop(saved)
            elif saved.stage is Stage.STARTING:
                # Our own QEMU had RAM and disks open, and may have touched them without running the guest.
                files = tuple(replace(file, identity=ram_files.identity(file.kept)) for file in saved.ram)
                written = {"images": disks.files(saved.xml), "devices": disks.blocks(saved.xml)}
                if saved.plain is not None:  # whoever restores it next, starts it as it was
                    written |= {"xml": saved.plain, "plain": None}
                self.record.write(Stage.SAVED, ram=files, **written)
                pending_strips.drop(saved)
        except (VirtcprError, OSError) as error:
            raise Unsettled(f"{self.name}: {cause}; {error}", hint=SETTLE) from cause
        if isinstance(cause, validate.Unfit):
            raise cause
        text = str(cause)
        waits = "" if "waits in" in text else f"; its state waits in {self.record.directory}"
        raise HostError(f"{text}{waits}", hint=hint) from cause


def end_new(connection: Connection, saved: Saved) -> None:
    """End the QEMU, if any, that was started to take this state and never ran the guest; no other process.

    By SIGKILL: an orderly end with discard-data wipes the RAM.  No start is allowed any more.  Raises HostError if
    it doesn't end, if somebody has resumed it, or if somebody else started the domain.
    """
    ram_files.started(saved.uuid)
    domain = connection.find(saved.uuid)
    process = None if domain is None else _process(domain, saved)
    if domain is None or process is None:
        return
    if not waited(process):
        raise HostError(f"{saved.name} was started by somebody else (process {process.pid})")
    if not kill_paused.end(process, _vcpus(domain), lambda: _rests(domain), guest.END_SECONDS):
        raise HostError(f"{saved.name} was resumed by somebody (process {process.pid})")
    await_gone(domain, process)


def _process(domain: Domain, saved: Saved) -> Process | None:
    """The domain's QEMU; None if it has none, or libvirt has noticed its end.  Raises HostError."""
    deadline = time.monotonic() + guest.GONE_SECONDS
    while domain.active():
        try:
            return Process.of(read(read_text(Path(saved.status_path))).pid)
        except HostError:
            if time.monotonic() > deadline:
                raise
            time.sleep(POLL)
    return None


def _vcpus(domain: Domain) -> tuple[int, ...]:
    """The vCPUs' threads; empty if QEMU doesn't answer: then nobody can tell it to run, either."""
    try:
        return tuple(qmp.threads(domain.monitor("query-cpus-fast")).values())
    except HostError:
        return ()


def _rests(domain: Domain) -> bool:
    try:
        return _status(domain) in RESTS
    except HostError:
        return True


def _status(domain: Domain) -> str:
    return qmp.text(qmp.obj(domain.monitor("query-status")).get("status"))


def waited(process: Process) -> bool:
    """Whether a QEMU was started to take a state; its command line says so for as long as it lives."""
    try:
        return WAITING in pairwise(process.argv())
    except OSError as error:
        raise HostError(f"process {process.pid} is gone") from error


def resume(domain: Domain, saved: Saved) -> None:
    """Have libvirt run the guest in new QEMU, if it doesn't run yet.  Raises HostError."""
    if saved.runs and _status(domain) in ("paused", "prelaunch"):
        domain.resume()
    if saved.runs and saved.wake and _status(domain) == "suspended":
        domain.wake_up()


def finish(domain: Domain, record: Record) -> None:
    """Set QEMU as libvirt expects it, and remove the file: the guest runs.  Raises HostError."""
    if not restore_settings(domain, return_path=record.saved.return_path):
        raise HostError(NOT_DONE)
    guest.forget_saved(record)
