"""``hooks``: libvirt's hooks, as a report."""

from __future__ import annotations

import os

from virtcpr.errors import HostError
from virtcpr.host import hooks
from virtcpr.model import HookAction, HookReport
from virtcpr.swap import held


def run(action: HookAction) -> HookReport:
    """Install, remove, or only look.  Raises HostError; also where a hook is what keeps a guest from a second start."""
    if action is HookAction.STATUS:
        return HookReport(hooks.status())
    if os.geteuid() != 0:
        raise HostError("only root can change libvirt's hooks", hint="run it with sudo")
    if action is HookAction.REMOVE and held.names():
        raise HostError(
            f"{', '.join(held.names())}: the guest runs out of libvirt's sight, and the hook keeps libvirt from "
            "starting it a second time; nothing was removed",
            hint="virtcpr recover --all, then try again",
        )
    return HookReport(hooks.install() if action is HookAction.INSTALL else hooks.remove())
