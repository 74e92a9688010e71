"""Objects: iothreads, sources of randomness, RAM that was plugged in, secrets."""

from __future__ import annotations

from virtcpr.domain.argv import CommandLine
from virtcpr.domain.facts import QemuFacts
from virtcpr.domain.reconcile.change import Change


def change(line: CommandLine, qemu: QemuFacts) -> Change:
    return Change()
