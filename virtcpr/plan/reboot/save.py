"""The plan of mode ``reboot`` for one domain: save its state, end its process, let libvirt start it again."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from virtcpr.domain.facts import DomainFacts, Memdev
from virtcpr.model import Finding, Mode
from virtcpr.plan.decision import Decision
from virtcpr.plan.findings.rule import blocks, concerning
from virtcpr.plan.findings.table import AGENT, RAM_NAMES, ROOM
from virtcpr.plan.steps import Side, Step

# Machine types that name memfds by a path, and other RAM by its id; libvirt says otherwise for main memory alone
# (qemuBuildMemoryBackendProps() in src/qemu/qemu_command.c).
OLD_NAMES = re.compile(r"pc-(?:q35|i440fx)-(?:[0-3]\.\d+|4\.0(?:\.\d+)?)")
SPARE_KIB = 256 * 1024  # device state, and RAM that isn't the guest's main memory: VRAM, firmware

SAVE = (
    Step("keep", "give files that hold RAM in libvirt's directory a second name", undo="remove the names"),
    Step("suspend", "have the guest suspend itself to RAM, if requested", undo="wake it up"),
    Step("save", "pause the guest and write its state to a file (cpr-reboot)", undo="resume old QEMU; remove the file"),
    Step("end-old", "end old QEMU, if the guest wasn't resumed meanwhile; its state is in the file now", side=Side.AT),
)
RESTORE = (
    Step(
        "start",
        "have libvirt start the domain again, paused, waiting for its state",
        undo="end new QEMU; keep the file",
    ),
    Step("load", "load the state from the file", undo="end new QEMU; keep the file"),
    Step("resume", "let new QEMU run the guest", side=Side.AFTER),
    Step("strip", "remove from libvirt's record what made QEMU wait", side=Side.AFTER),
)
REBOOT = (*SAVE, *RESTORE)


@dataclass(frozen=True)
class RebootPlan:
    """The facts and decisions about a domain before anything is done."""

    facts: DomainFacts
    in_place: tuple[str, ...]  # RAM files that stay as they are; empty: all RAM goes to the file
    linked: frozenset[str]  # the RAM files that libvirt deletes when the domain ends
    needs_kib: int  # space that the state may need
    wake: bool  # the guest suspends itself before, and is woken up after
    readies: bool = False  # the domain is started again so that mode transfer can take it over
    steps: tuple[Step, ...] = REBOOT


def plan(
    facts: DomainFacts, *, lasting: Collection[str] | None = None, suspend: bool = False, readies: bool = False
) -> RebootPlan:
    """The plan for a running domain without blockers.  ``readies``: its RAM is to be in memfds afterwards.

    ``lasting``: the files whose RAM survives a reboot of the host; None: the host isn't rebooted.  QEMU's capability
    x-ignore-shared applies to all RAM in named shared files or to none (ramblock_is_ignored in migration/ram.c).
    """
    assert facts.qemu is not None
    named = [memdev for memdev in facts.qemu.memdevs if stays(memdev)]
    in_place = tuple(memdev.path or "" for memdev in named)
    if readies or (lasting is not None and not set(in_place) <= set(lasting)):
        in_place, named = (), []
    whole = len(named) == len(facts.qemu.memdevs) and bool(named)
    ram = 0 if whole else facts.live.memory_kib()
    awake = facts.qemu.status != "suspended"
    return RebootPlan(
        facts=facts,
        in_place=in_place,
        linked=frozenset(path for path in in_place if _goes_with_domain(path, facts.id)),
        needs_kib=ram + SPARE_KIB,
        wake=suspend and awake,
        readies=readies,
    )


def stays(memdev: Memdev) -> bool:
    """Whether this RAM can stay in place: shared, in a named file (or a DAX device)."""
    return memdev.share and memdev.kind == "memory-backend-file" and memdev.place in ("file", "device")


def _goes_with_domain(path: str, number: int | None) -> bool:
    """libvirt's own directory, ID-NAME (qemuDomainGetMemoryBackingDomainPath in src/qemu/qemu_conf.c)."""
    directory = path.rpartition("/")[0].rpartition("/")[2]
    return number is not None and directory.startswith(f"{number}-")


def reasons(
    decision: Decision, *, suspend: bool, agent: bool | None = None, readies: bool = False
) -> tuple[Finding, ...]:
    """The blockers and warnings of mode ``reboot``; with ``suspend`` the guest suspends itself before.

    ``readies``: its RAM is to be in memfds afterwards.
    """
    findings = [f for f in decision.reasons(Mode.REBOOT) if not (suspend and f.code == "hostdev-awake")]
    qemu = decision.facts.qemu
    if suspend and not agent and qemu is not None and qemu.status != "suspended":
        findings.append(AGENT.finding(decision.facts.name, {}))
    live = decision.facts.live
    if readies and OLD_NAMES.fullmatch(live.machine) and live.matches("cpu/numa/cell | devices/memory"):
        findings.append(RAM_NAMES.finding(decision.facts.name, {"machine": live.machine}))
    return tuple(findings)


def blocked(findings: Collection[Finding]) -> bool:
    return blocks(concerning(findings, Mode.REBOOT), Mode.REBOOT)


def no_room(name: str, needs_kib: int, free: int, directory: str) -> Iterator[Finding]:
    """A finding if ``free`` bytes in the directory of saved states aren't enough."""
    if free < needs_kib * 1024:
        hit = {"needs": f"{needs_kib // 1024} MiB", "free": f"{free >> 20} MiB", "directory": directory}
        yield ROOM.finding(name, hit)
