"""The command line that starts the machine as it is now.

``/proc/PID/cmdline`` says how the guest started.  Since then disks were attached, snapshots taken and committed, media
changed, vCPUs added: QEMU's answers and libvirt's record have the current state.  The result names exactly what QEMU
has now: a QEMU started from it never opens an image that the guest no longer uses.
"""

from __future__ import annotations

from dataclasses import dataclass

from virtcpr.domain.argv import CommandLine
from virtcpr.domain.facts import QemuFacts
from virtcpr.domain.reconcile import blocks, chardevs, devices, netdevs, objects
from virtcpr.domain.reconcile.change import Change


@dataclass(frozen=True)
class Reconciled:
    """``line`` is complete only if ``refused`` is empty: the messages about what can't be rebuilt."""

    line: CommandLine
    refused: tuple[str, ...] = ()


def reconcile(line: CommandLine, qemu: QemuFacts, status_xml: str) -> Reconciled:
    """``line`` with what was added, removed or changed since; the same line if nothing was.

    ``status_xml`` is libvirt's record of the running domain.  Descriptors of added options are numbered 0: the caller
    must find them by their use.
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
    """QEMU creates objects, back ends and block nodes before devices, regardless of their position (system/vl.c):
    additions go to the end, each part in its own order."""
    replaced = {old: new for change in changes for old, new in change.replaced.items()}
    kept = (replaced.get(option, option) for option in line.options)
    added = (option for change in changes for option in change.added)
    return CommandLine(line.emulator, (*(option for option in kept if option is not None), *added))
