"""Disk images: the graph of block nodes as it is, and what each drive holds."""

from __future__ import annotations

from virtcpr.domain.argv import CommandLine
from virtcpr.domain.facts import QemuFacts
from virtcpr.domain.reconcile.change import Change


def change(line: CommandLine, qemu: QemuFacts, status_xml: str) -> Change:
    return Change()
