"""The rules by the groups in which docs/findings.md lists them."""

from __future__ import annotations

from collections.abc import Sequence

from virtcpr.plan.findings import table
from virtcpr.plan.findings.prepare_rules import EDITED, PREPARING
from virtcpr.plan.findings.rule import Rule

GROUPS: tuple[tuple[str, Sequence[Rule]], ...] = (
    ("State", table.STATE),
    ("Emulator", table.EMULATORS),
    ("Memory", table.MEMORY),
    ("QEMU and libvirt at work", table.MIGRATION),
    ("Devices", table.DEVICES),
    ("Changed since the start", table.DRIFT),
    ("Rehearsal", table.REHEARSAL),
    ("Saving", table.SAVING),
    ("Preparing", (*PREPARING, *EDITED)),
)
