"""``hooks``: install, remove or report virtcpr's hooks in libvirt."""

from __future__ import annotations

import os

from virtcpr.actions.records import journal, pending, quarantine, saves
from virtcpr.errors import HostError
from virtcpr.host.libvirt import daemon, hooks
from virtcpr.host.libvirt.connection import SYSTEM, Connection
from virtcpr.host.system.lock import Lock
from virtcpr.model import HookAction, HookReport


def run(action: HookAction) -> HookReport:
    """Install, remove, or only look.  Raises HostError, also if a hook must prevent a second start of a guest."""
    if action is HookAction.STATUS:
        return HookReport(hooks.status())
    if os.geteuid() != 0:
        raise HostError("only root can change libvirt's hooks", hint="run it with sudo")
    if action is HookAction.INSTALL:
        return HookReport(hooks.install())
    _refuse_while_needed()
    _refuse_while_interrupted()
    with Lock():  # from here on nobody begins what would need a hook
        _refuse_while_needed()
        _wait_for_the_daemon()
        return HookReport(hooks.remove())


def _refuse_while_interrupted() -> None:
    """Raises HostError.  libvirt's hook would find the lock taken, too, and settle nothing."""
    if interrupted := journal.pending():
        known = pending.domains()
        raise HostError(
            f"{', '.join(known.get(uuid) or uuid for uuid in interrupted)}: its swap is interrupted; the hook settles "
            "that before libvirt's daemon reads its records; nothing was removed",
            hint="run 'virtcpr recover --all', then try again",
        )


def _refuse_while_needed() -> None:
    """Raises HostError if a hook must prevent a second start of a guest."""
    if held := quarantine.held():
        raise HostError(
            f"{', '.join(held.values())}: the guest runs, but libvirt doesn't see it; the hook prevents a second "
            "start; nothing was removed",
            hint="run 'virtcpr recover --all', then try again",
        )
    if saves.waiting():
        names = {record.saved.uuid: record.saved.name for record in saves.readable()}
        saved = ", ".join(names.get(uuid, uuid) for uuid in saves.waiting())
        raise HostError(
            f"{saved}: the guest is saved; the hook prevents a fresh start; nothing was removed",
            hint="run 'virtcpr restore --all' (with --discard: give up the saved state), then try again",
        )


def _wait_for_the_daemon() -> None:
    """Return once no daemon is about to run a hook for a guest that runs.  Raises HostError.

    A daemon that starts lists the hooks for each guest, and ends a guest for which it can't run one that it has listed
    (virHookCall and qemuProcessReconnect in libvirt).
    """
    if daemon.process() is None:
        return
    try:
        with Connection(SYSTEM) as connection:
            for domain in connection.domains(running=True):
                domain.reconnected()
    except HostError as error:
        raise HostError(
            f"{error.message}; no hook was removed: a daemon that is just starting ends a guest whose hook goes when "
            "it is about to run it",
            hint=error.hint,
        ) from error
