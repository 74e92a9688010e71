"""Settle the interrupted save or restore of one guest: see who has it, decide by ``plan.reboot.recovery``, act.

libvirt's daemon runs: it starts and resumes the domains.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from shlex import quote

from virtcpr.actions.daemon import blackout, qemu_hook, reconnect
from virtcpr.actions.inspect.emulators import Emulators
from virtcpr.actions.reboot import guest, restore_guest, strip, validate
from virtcpr.actions.reboot.restore_guest import Restoring
from virtcpr.actions.records import moved, pending_strips, saves
from virtcpr.actions.records.saves import Record
from virtcpr.domain import qmp
from virtcpr.domain.status import read
from virtcpr.errors import HostError, VirtcprError
from virtcpr.host.files import ram_files
from virtcpr.host.files.atomic import read_text
from virtcpr.host.libvirt.connection import SYSTEM, Connection, Domain
from virtcpr.host.processes import kill_paused
from virtcpr.host.processes.proc import Process
from virtcpr.model import (
    Keeping,
    KeptDomain,
    Mode,
    Recovered,
    Settled,
    Side,
)
from virtcpr.plan.outcome import amended
from virtcpr.plan.reboot.recovery import Found, Purpose, Remedy, Stage, remedy

log = logging.getLogger(__name__)


def settle_all(names: tuple[str, ...], *, dry_run: bool) -> tuple[Recovered, ...]:
    """Settle the interrupted saves and restores of these domains, or of all if none is named; the host's lock is held.

    Those that wait for `restore` are listed, and wait on.  Raises HostError if the daemon doesn't answer.
    """
    if not dry_run:
        saves.sweep()
    outcomes = [_unreadable(uuid, error) for uuid, error in saves.broken() if not names or uuid in names]
    records = [
        record for record in saves.readable() if not names or {record.saved.uuid, record.saved.name} & set(names)
    ]
    if not records and not pending_strips.noted():
        return tuple(outcomes)
    connection = reconnect.reconnect(SYSTEM) if dry_run else _connected()
    unguarded: HostError | None = None
    try:
        if not dry_run:
            if strip.stuck_starts(pending_strips.noted()):
                connection = strip.strip_in_blackout(connection, {}).connection
            connection, unguarded = _guarded(connection)
        emulators = Emulators()
        for record in records:
            outcomes.append(settle(connection, record, emulators, dry_run=dry_run, unguarded=unguarded))
            if not dry_run and record.saved.purpose is Purpose.UPGRADE:
                source = Side(record.saved.qemu) if record.saved.qemu else None
                moved.note_settled(outcomes[-1], Mode.REBOOT, source, _target(record, emulators))
        if not dry_run:
            stripped = strip.strip_in_blackout(connection, {})
            connection = stripped.connection
            for problem in stripped.problems:
                log.warning("%s", problem)
    finally:
        connection.close()
    return tuple(outcomes)


def _guarded(connection: Connection) -> tuple[Connection, HostError | None]:
    """With libvirt's hook, or why it isn't there: then no guest is started, and the others needn't wait for it.

    Raises HostError if the daemon isn't there any more.
    """
    try:
        return qemu_hook.ready(connection, required=False), None
    except blackout.DaemonDown:
        raise
    except (HostError, OSError) as error:
        unguarded = HostError(f"{error}; its state waits", hint=getattr(error, "hint", None))
        return (connection if connection.alive() else _connected()), unguarded


def _target(record: Record, emulators: Emulators) -> Side | None:
    """The QEMU that the guest was to be moved to; None if that can't be told."""
    with suppress(VirtcprError):
        emulator = emulators.get(record.saved.emulator or record.saved.live.emulator)
        return Side(emulator.version, build=emulator.build) if emulator.version else None
    return None


def settle_now(uuid: str) -> Recovered | None:
    """Settle this process's own save or restore if its result is unknown; None if that can't be done.

    Over a new connection: libvirt's daemon may have died and come back.  Never raises.
    """
    try:
        record, connection = saves.load(uuid), _connected()
    except VirtcprError as error:
        log.info("%s isn't settled: %s", uuid, error.message)
        return None
    try:
        return settle(connection, record, Emulators(), dry_run=False)
    finally:
        connection.close()


def _connected() -> Connection:
    """Connect to the daemon.  If a run was killed after it stopped the daemon, start the daemon first.

    Raises HostError if it doesn't answer.
    """
    return reconnect.reconnect(SYSTEM, blackout.start_if_stopped)


def _unreadable(uuid: str, error: HostError) -> Recovered:
    return Recovered("", uuid, "", "", "", Settled.UNKNOWN, f"{error.message}: {error.hint}")


def found(connection: Connection, record: Record) -> Found:
    """Which process the domain has.  A process that was stopped, to be ended, is continued."""
    saved = record.saved
    old = Process(saved.old_pid, saved.old_started)
    kill_paused.go_on(old)
    try:
        domain = connection.find(saved.uuid)
        if domain is None or not domain.active():
            return Found.SILENT if old.alive() else Found.GONE
        process = Process.of(read(read_text(Path(saved.status_path))).pid)
        status = qmp.text(qmp.obj(domain.monitor("query-status")).get("status"))
        if process == old:
            return Found.OLD_RUNNING if status == "running" else Found.OLD_RESTING
        if not restore_guest.waited(process):
            return Found.STRANGER
        return _new(domain, status)
    except (VirtcprError, OSError, ValueError):
        return Found.SILENT


def _new(domain: Domain, status: str) -> Found:
    if status == "inmigrate":
        return Found.NEW_WAITING
    if status not in ("paused", "prelaunch"):
        return Found.NEW_RUNNING
    answer = qmp.obj(domain.monitor("query-migrate"))
    return Found.NEW_LOADED if qmp.text(answer.get("status")) == "completed" else Found.NEW_WAITING


def settle(
    connection: Connection,
    record: Record,
    emulators: Emulators,
    *,
    dry_run: bool,
    unguarded: HostError | None = None,
) -> Recovered:
    """Never raises: the result says what isn't known.  ``unguarded``: why no guest may be started from its file."""
    saved = record.saved
    seen = found(connection, record)
    decided = remedy(saved.stage, saved.purpose, seen)
    try:
        if dry_run:
            settled, text = Settled.PENDING, f"as it looks now: {decided.value}"
        else:
            # The run that was starting it is gone: from now on libvirt's hook refuses a fresh start.
            ram_files.started(saved.uuid)
            if unguarded is not None and decided is Remedy.RESTORE:
                raise unguarded
            settled, text = _act(connection, record, emulators, decided)
    except VirtcprError as error:
        settled, text = Settled.UNKNOWN, f"{error.message}: {error.hint}" if error.hint else error.message
    except Exception as error:  # a defect, too: the other domains must not suffer
        settled, text = Settled.UNKNOWN, f"{type(error).__name__}: {error}"
    old = seen.value.removeprefix("old-") if seen.value.startswith("old-") else "gone"
    new = seen.value.removeprefix("new-") if seen.value.startswith("new-") else "gone"
    if seen in (Found.STRANGER, Found.SILENT):
        new = seen.value
    return Recovered(saved.name, saved.uuid, saved.stage.value, old, new, settled, text)


def _act(connection: Connection, record: Record, emulators: Emulators, decided: Remedy) -> tuple[Settled, str]:
    saved = record.saved
    match decided:
        case Remedy.BACK:
            return Settled.BACK, f"the guest {guest.go_back(_domain(connection, record), record)}"
        case Remedy.WAIT:
            restore_guest.end_new(connection, saved)
            if saved.stage is Stage.STARTING:
                record.write(Stage.SAVED)
            return Settled.WAITING, f"its state waits: 'virtcpr restore {quote(saved.name)}' lets it go on"
        case Remedy.RESTORE:
            named = saved.emulator or saved.live.emulator
            restoring = Restoring(connection, record, emulators.get(named), lambda _: None)
            restoring.run(trusted=validate.fresh(record))
            return Settled.FORWARD, "restored from its file"
        case Remedy.FORWARD:
            domain = _domain(connection, record)
            restore_guest.resume(domain, saved)
            restore_guest.finish(domain, record)
            return Settled.FORWARD, "the guest runs in new QEMU"
        case Remedy.LOST:
            return _lost(record)
        case Remedy.UNKNOWN:
            raise HostError(
                "it isn't known which process has the guest; nothing was done", hint=f"virsh list; {record.directory}"
            )


def _domain(connection: Connection, record: Record) -> Domain:
    domain = connection.find(record.saved.uuid)
    if domain is None:
        raise HostError(f"libvirt doesn't know {record.saved.name}")
    return domain


def _lost(record: Record) -> tuple[Settled, str]:
    """The file is of no use: it was never whole, or the guest may have gone on from it and written to its disks."""
    guest.forget_saved(record)
    if record.saved.stage is Stage.SAVING:
        return Settled.LOST, "its QEMU ended while it was being saved; the domain can be started"
    return Settled.LOST, "its new QEMU ended, and may have run the guest; the domain can be started"


def settle_report(report: KeptDomain, results: Mapping[Settled, Keeping]) -> KeptDomain:
    """Settle a domain whose state isn't known, as `recover` would.  The report stays as it is if that fails."""
    recovered = settle_now(report.uuid)
    if recovered is None or recovered.settled not in results:
        return report
    result = results[recovered.settled]
    success = result in (Keeping.SAVED, Keeping.RESTORED)
    return replace(report, result=result, findings=amended(report.findings, recovered, success=success))
