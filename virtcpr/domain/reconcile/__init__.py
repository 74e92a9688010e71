"""The command line that starts the machine as it is now.

``/proc/PID/cmdline`` says how the guest started.  Since then disks were attached, snapshots taken and committed, media
changed, vCPUs added: QEMU's answers and libvirt's record tell what became of it.  The result names what QEMU has and
nothing else: no image that the guest has left behind is ever opened by whoever starts from it.
"""

from __future__ import annotations

from dataclasses import dataclass

from virtcpr.domain.argv import CommandLine
from virtcpr.domain.facts import QemuFacts
from virtcpr.domain.reconcile import blocks, chardevs, devices, netdevs, objects
from virtcpr.domain.reconcile.change import Change


@dataclass(frozen=True)
class Reconciled:
    """``line`` is complete only where nothing is in ``refused``: what can't be rebuilt, as people read it."""

    line: CommandLine
    refused: tuple[str, ...] = ()


def reconcile(line: CommandLine, qemu: QemuFacts, status_xml: str) -> Reconciled:
    """``line`` with what was added, taken away or changed since; the same line where nothing was.

    ``status_xml`` is libvirt's record of the running domain.  Descriptors in what is added are numbered 0: who starts
    it has to find them by what they are.
    """
    changes = (
        objects.change(line, qemu),
        chardevs.change(line, qemu, status_xml),
        blocks.change(line, qemu, status_xml),
        netdevs.change(line, qemu, status_xml),
        devices.change(line, qemu),
    )
    now = blocks.with_drives(_applied(line, changes), qemu)
    return Reconciled(now, tuple(refusal for change in changes for refusal in change.refused))


def _applied(line: CommandLine, changes: tuple[Change, ...]) -> CommandLine:
    """QEMU makes objects, back ends and block nodes before devices, wherever they stand (system/vl.c): what is added
    goes to the end, each part in its own order."""
    replaced = {old: new for change in changes for old, new in change.replaced.items()}
    kept = (replaced.get(option, option) for option in line.options)
    added = (option for change in changes for option in change.added)
    return CommandLine(line.emulator, (*(option for option in kept if option is not None), *added))
