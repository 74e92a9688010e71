"""``hooks``: libvirt's hooks, as a report."""

from __future__ import annotations

import os

from virtcpr.errors import HostError
from virtcpr.host import hooks
from virtcpr.model import HookAction, HookReport


def run(action: HookAction) -> HookReport:
    """Install, remove, or only look.  Raises HostError."""
    if action is HookAction.STATUS:
        return HookReport(hooks.status())
    if os.geteuid() != 0:
        raise HostError("only root can change libvirt's hooks", hint="run it with sudo")
    return HookReport(hooks.install() if action is HookAction.INSTALL else hooks.remove())
