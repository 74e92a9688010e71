"""``hooks``: install, remove or report virtcpr's hooks in libvirt."""

from __future__ import annotations

import os

from virtcpr.actions.records import quarantine, saves
from virtcpr.errors import HostError
from virtcpr.host.libvirt import daemon, hooks
from virtcpr.host.libvirt.connection import Connection
from virtcpr.model import HookAction, HookReport


def run(action: HookAction) -> HookReport:
    """Install, remove, or only look.  Raises HostError, also if a hook must prevent a second start of a guest."""
    if action is HookAction.STATUS:
        return HookReport(hooks.status())
    if os.geteuid() != 0:
        raise HostError("only root can change libvirt's hooks", hint="run it with sudo")
    if action is HookAction.REMOVE:
        _refuse_while_needed()
        _wait_for_the_daemon()
    return HookReport(hooks.install() if action is HookAction.INSTALL else hooks.remove())


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

    A daemon that starts looks for its hooks, and then ends every guest whose hook it can't run (virHookCall and
    qemuProcessReconnect in libvirt): so it does if one is removed in between.
    """
    if daemon.process() is None:
        return
    try:
        with Connection("qemu:///system") as connection:
            for domain in connection.domains(running=True):
                domain.reconnected()
    except HostError as error:
        raise HostError(
            f"{error.message}; no hook was removed: a daemon that is just starting would end every guest whose hook is "
            "gone",
            hint=error.hint,
        ) from error
