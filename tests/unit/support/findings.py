"""The rules by the groups in which docs/findings.md lists them."""

from __future__ import annotations

from collections.abc import Sequence

from virtcpr.plan.findings import table
from virtcpr.plan.findings.prepare_rules import EDITED, PREPARING
from virtcpr.plan.findings.rule import Rule

GROUPS: dict[str, Sequence[Rule]] = {
    "state": table.STATE,
    "emulator": table.EMULATORS,
    "memory": table.MEMORY,
    "migration": table.MIGRATION,
    "devices": (*table.DEVICES, *table.UNTRIED),
    "drift": table.DRIFT,
    "rehearsal": table.REHEARSAL,
    "saving": table.SAVING,
    "preparing": (*PREPARING, *EDITED),
}
