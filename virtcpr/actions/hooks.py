"""``hooks``: libvirt's hooks, as a report."""

from __future__ import annotations

import os

from virtcpr.actions.records import quarantine, saves
from virtcpr.errors import HostError
from virtcpr.host.libvirt import hooks
from virtcpr.model import HookAction, HookReport


def run(action: HookAction) -> HookReport:
    """Install, remove, or only look.  Raises HostError; also where a hook is what keeps a guest from a second start."""
    if action is HookAction.STATUS:
        return HookReport(hooks.status())
    if os.geteuid() != 0:
        raise HostError("only root can change libvirt's hooks", hint="run it with sudo")
    if action is HookAction.REMOVE:
        _refuse_while_needed()
    return HookReport(hooks.install() if action is HookAction.INSTALL else hooks.remove())


def _refuse_while_needed() -> None:
    """Raises HostError where a hook is what keeps a guest from a second start."""
    if quarantine.names():
        raise HostError(
            f"{', '.join(quarantine.names())}: the guest runs out of libvirt's sight, and the hook keeps libvirt from "
            "starting it a second time; nothing was removed",
            hint="virtcpr recover --all, then try again",
        )
    if saves.waiting():
        names = {record.saved.uuid: record.saved.name for record in saves.readable()}
        saved = ", ".join(names.get(uuid, uuid) for uuid in saves.waiting())
        raise HostError(
            f"{saved}: the guest is saved, and the hook keeps libvirt from starting it afresh; nothing was removed",
            hint="virtcpr restore --all, or with --discard to give up what was saved, then try again",
        )
