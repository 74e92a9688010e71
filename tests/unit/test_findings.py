"""Every rule that refuses a domain, by a real domain's facts with one thing changed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.unit import facts
from virtcpr.domain.facts import DomainFacts, Emulator, Memdev
from virtcpr.model import Severity
from virtcpr.plan.findings import REFUSED_DEVICES, blocks, findings

Change = Callable[[DomainFacts], DomainFacts]


def qemu(**changes: Any) -> Change:
    def change(domain: DomainFacts) -> DomainFacts:
        assert domain.qemu is not None
        return replace(domain, qemu=replace(domain.qemu, **changes))

    return change


def xml(old: str, new: str) -> Change:
    return lambda domain: replace(domain, live_xml=domain.live_xml.replace(old, new))


def status(old: str, new: str) -> Change:
    return lambda domain: replace(domain, status_xml=domain.status_xml.replace(old, new))


def emulator(**changes: Any) -> Change:
    return lambda domain: replace(domain, emulator=replace(domain.emulator, **changes))


def whole(**changes: Any) -> Change:
    return lambda domain: replace(domain, **changes)


CASES: tuple[tuple[str, str, Change], ...] = (
    ("not-running", "the domain is shut off", whole(state="shut off", process=None, qemu=None)),
    ("paused", "(I/O error)", whole(state="paused", reason="I/O error")),
    ("state", "the domain is crashed", whole(state="crashed")),
    ("emulator", "/usr/bin/qemu doesn't exist", whole(emulator=Emulator("/usr/bin/qemu", problem="doesn't exist"))),
    ("emulator-arch", "runs aarch64 guests, this one is x86_64", emulator(target="aarch64")),
    ("emulator-cpr", "can't do cpr-transfer", emulator(cpr_transfer=False)),
    ("qemu-old", "runs in QEMU 9.2.0, cpr-transfer needs 10.0", qemu(version="9.2.0", version_tuple=(9, 2, 0))),
    ("ram-private", "RAM isn't shared (pc.ram)", qemu(memdevs=(Memdev("pc.ram", False, None),))),
    ("ram-private", "no memory backend", qemu(memdevs=())),
    ("ram-directory", "(/dev/hugepages)", qemu(memdevs=(Memdev("pc.ram", True, "/dev/hugepages", True),))),
    ("aux-ram-share", "without aux-ram-share=on", qemu(aux_ram_share=False)),
    ("job", "busy with the domain: a job", whole(busy="unbounded")),
    ("job", "a block job", status("<blockjobs active='no'/>", "<blockjobs active='yes'/>")),
    ("job", "a backup", status("<blockjobs ", "<backups><domainbackup/></backups><blockjobs ")),
    ("job", "a reboot", status("<blockjobs ", "<fakereboot/><blockjobs ")),
    ("job", "QEMU's job mirror0", qemu(jobs=("mirror0",))),
    ("lock-manager", "(sanlock)", whole(lock_manager="sanlock")),
    ("qemu-blocked", "QEMU: non-migratable device: nvme", qemu(blocked_reasons=("non-migratable device: nvme",))),
    ("interface", "of type 'user'", xml("<interface type='network'>", "<interface type='user'>")),
    ("changed", "devices were added or removed since the guest started: +late", qemu(peripherals=frozenset({"late"}))),
    ("changed", "-iothread1", qemu(iothreads=frozenset())),
)


@pytest.mark.parametrize(("code", "said", "change"), CASES, ids=[f"{code}: {said}" for code, said, _ in CASES])
def test_rule(code: str, said: str, change: Change) -> None:
    found = findings(change(facts.domain()))
    matching = [f for f in found if f.code == code and said in f.message]
    assert matching, found
    assert all(f.severity is Severity.BLOCKER and f.remedy for f in matching)
    assert blocks(found)


def test_a_sound_domain_has_none() -> None:
    assert findings(facts.domain()) == ()


def test_all_are_reported() -> None:
    bad = qemu(aux_ram_share=False, memdevs=(), version_tuple=(9, 0, 0))(facts.domain())
    assert {"aux-ram-share", "ram-private", "qemu-old"} <= {f.code for f in findings(bad)}


def test_an_image_that_the_guest_no_longer_uses_blocks() -> None:
    domain = facts.domain()
    assert domain.qemu is not None
    nodes = tuple(replace(n, file="/elsewhere.iso") if n.name == "libvirt-1-storage" else n for n in domain.qemu.nodes)
    found = findings(qemu(nodes=nodes)(domain))
    assert [f.code for f in found] == ["changed"]
    assert "libvirt-1-storage now is /elsewhere.iso" in found[0].message


def test_every_refused_device_has_a_remedy() -> None:
    assert all(what and remedy for _, what, remedy in REFUSED_DEVICES)


@pytest.mark.parametrize(
    "device",
    [
        "<vsock model='virtio'/>",
        "<hostdev mode='subsystem' type='pci'/>",
        "<tpm model='tpm-crb'/>",
        "<graphics type='spice'/>",
        "<video><model type='virtio'><acceleration accel3d='yes'/></model></video>",
        "<interface type='network'><driver queues='4'/></interface>",
        "<disk type='nvme'/>",
        "<disk type='file'><transient/></disk>",
        "<channel type='unix'><source mode='connect' path='/x'/></channel>",
    ],
)
def test_a_device_that_cannot_follow_blocks(device: str) -> None:
    found = findings(xml("</devices>", f"{device}</devices>")(facts.domain()))
    assert [f.code for f in found] == ["device"]
