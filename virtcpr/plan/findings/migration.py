"""What QEMU and libvirt are busy with, and what QEMU itself reports about migrating the guest."""

from __future__ import annotations

import re
from collections.abc import Iterator

from virtcpr.plan.findings.rule import Hit, Subject, Test

# Blockers that QEMU adds for mode `normal` only; CPR ignores them (callers of migrate_add_blocker_normal).
NORMAL_ONLY = re.compile(
    r"The \w+( \(rw\))? format used by node '.*' does not support live migration"
    r"|Migration disabled: vhost lacks VHOST_F_LOG_ALL feature"
    r"|vhost-scsi does not support migration"
    r"|.*VFIO (migration (is not supported|init failed)|device doesn't support)"
    r"|Migration is currently not supported with (multiple VFIO devices|vIOMMU enabled)"
)
# A blocker of every mode; if a mode other than `normal` is set, all other reasons are for that mode.
ALWAYS = "non-migratable device: "


def busy(subject: Subject) -> Iterator[Hit]:
    status = subject.facts.status
    at_work = [*status.busy, *(["a job"] if subject.facts.busy and "a job" not in status.busy else [])]
    at_work += [f"QEMU's job {job}" for job in subject.qemu.jobs]
    if at_work:
        yield {"jobs": ", ".join(at_work)}


def leases(subject: Subject) -> Iterator[Hit]:
    if subject.facts.lock_manager not in (None, "nop"):
        yield {"manager": str(subject.facts.lock_manager)}


def blocked_by_qemu(subject: Subject) -> Iterator[Hit]:
    normal = subject.qemu.mode == "normal"
    for reason in subject.qemu.blocked_reasons:
        if reason.startswith(ALWAYS) or (normal and not NORMAL_ONLY.match(reason)):
            yield {"reason": reason}


def blocked_by_qemu_in_mode_normal(subject: Subject) -> Iterator[Hit]:
    return ({"reason": r} for r in subject.qemu.blocked_reasons if NORMAL_ONLY.match(r))


def write_thresholds(subject: Subject) -> Iterator[Hit]:
    return ({"node": node.name} for node in subject.qemu.nodes if node.threshold)


def mode_left(subject: Subject) -> Iterator[Hit]:
    if subject.qemu.mode != "normal":
        yield {"mode": subject.qemu.mode}


def capabilities(*names: str) -> Test:
    def test(subject: Subject) -> Iterator[Hit]:
        return ({"capability": name} for name in names if name in subject.qemu.capabilities)

    return test
