"""Mode reboot's plan: what stays in place, what room it needs, what stands against it; and the remedies."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest

from tests.unit.support import facts
from virtcpr.domain.facts import DomainFacts, Memdev
from virtcpr.model import Mode, Severity
from virtcpr.plan.decision import decide
from virtcpr.plan.reboot import save as reboot
from virtcpr.plan.reboot.recovery import Found, Purpose, Remedy, Stage, remedy

OWN, NAMED = "/var/lib/libvirt/qemu/ram/1-d1/pc.ram", "/srv/ram/d1"
VRAM = Memdev("vram", False, "memory-backend-ram")
MIB = 1024


def file_ram(path: str, *, share: bool = True, place: str = "file") -> Memdev:
    return Memdev("pc.ram", share, "memory-backend-file", path, place)


def domain(*memdevs: Memdev, status: str = "running", xml: tuple[str, str] = ("", "")) -> DomainFacts:
    usual = facts.domain()
    assert usual.qemu is not None
    qemu = replace(usual.qemu, memdevs=memdevs or usual.qemu.memdevs, status=status)
    return replace(usual, qemu=qemu, xml=usual.xml.replace(*xml))


@pytest.mark.parametrize(
    ("memdevs", "in_place"),
    [
        ((file_ram(NAMED),), (NAMED,)),
        ((file_ram("/dev/dax0.0", place="device"),), ("/dev/dax0.0",)),
        ((file_ram(NAMED, share=False),), ()),
        ((file_ram("/dev/hugepages", place="directory"),), ()),
        ((Memdev("pc.ram", True, "memory-backend-memfd"),), ()),
        ((file_ram(NAMED), VRAM), (NAMED,)),
    ],
)
def test_only_shared_ram_in_a_file_with_a_name_stays(memdevs: tuple[Memdev, ...], in_place: tuple[str, ...]) -> None:
    assert reboot.plan(domain(*memdevs)).in_place == in_place


def test_what_libvirt_deletes_with_the_domain_is_linked() -> None:
    plan = reboot.plan(domain(file_ram(OWN), replace(file_ram(NAMED), id="dimm0")))
    assert (plan.in_place, plan.linked) == ((OWN, NAMED), frozenset({OWN}))
    assert reboot.plan(domain(file_ram(OWN.replace("/1-d1/", "/11-d1/")))).linked == frozenset()


def test_over_a_reboot_all_of_it_lasts_or_all_of_it_goes_to_the_file() -> None:
    both = domain(file_ram(OWN), replace(file_ram(NAMED), id="dimm0"))
    assert reboot.plan(both, lasting=[OWN, NAMED]).in_place == (OWN, NAMED)
    plan = reboot.plan(both, lasting=[NAMED])
    assert (plan.in_place, plan.linked) == ((), frozenset())
    assert plan.needs_kib == reboot.plan(domain()).needs_kib


def test_the_room_that_a_state_needs() -> None:
    assert reboot.plan(domain()).needs_kib == 512 * MIB + reboot.SPARE_KIB
    assert reboot.plan(domain(file_ram(NAMED))).needs_kib == reboot.SPARE_KIB
    assert reboot.plan(domain(file_ram(NAMED), VRAM)).needs_kib == 512 * MIB + reboot.SPARE_KIB


def test_ram_that_is_to_be_in_memfds_stays_nowhere() -> None:
    plan = reboot.plan(domain(file_ram(NAMED)), readies=True)
    assert (plan.in_place, plan.needs_kib) == ((), 512 * MIB + reboot.SPARE_KIB)


@pytest.mark.parametrize(
    ("machine", "ram", "readies", "codes"),
    [
        ("pc-q35-4.0.1", "cell", True, ["ram-names"]),
        ("pc-i440fx-3.1", "cell", True, ["ram-names"]),
        ("pc-q35-4.0", "cell", False, []),
        ("pc-q35-4.0", "main", True, []),
        ("pc-q35-4.1", "cell", True, []),
        ("pc-q35-10.0", "cell", True, []),
    ],
)
def test_old_machines_name_their_ram_otherwise(machine: str, ram: str, readies: bool, codes: list[str]) -> None:
    facts = domain(xml=("machine='pc-q35-10.0'", f"machine='{machine}'"))
    if ram == "cell":
        cells = "<cpu><numa><cell id='0' cpus='0' memory='1'/></numa></cpu>"
        facts = replace(facts, xml=facts.xml.replace("</domain>", f"{cells}</domain>"))
    found = reboot.reasons(decide(facts), suspend=False, readies=readies)
    assert [f.code for f in found if f.code == "ram-names"] == codes


def test_too_little_room() -> None:
    assert list(reboot.no_room("web", 2 * MIB, 2 << 20, "/srv")) == []
    (finding,) = reboot.no_room("my web", 2 * MIB, (2 << 20) - 1, "/srv")
    assert finding.message == "the guest's state may need 2 MiB, but /srv has only 1 MiB left"
    assert "virtcpr prepare --mode reboot 'my web'" in finding.remedy
    assert (finding.code, finding.severity, finding.modes) == ("room", Severity.BLOCKER, (Mode.REBOOT,))
    assert reboot.blocked([finding])


@pytest.mark.parametrize(
    ("status", "suspend", "wake"),
    [("running", True, True), ("running", False, False), ("suspended", True, False), ("suspended", False, False)],
)
def test_only_a_guest_that_virtcpr_put_to_sleep_is_woken(status: str, suspend: bool, wake: bool) -> None:
    assert reboot.plan(domain(status=status), suspend=suspend).wake is wake


@pytest.mark.parametrize("agent", [False, None])
def test_a_guest_that_cannot_be_asked_to_suspend_itself(agent: bool | None) -> None:
    """Whether its agent is silent, or isn't there at all."""
    (finding,) = reboot.reasons(decide(domain()), suspend=True, agent=agent)
    assert (finding.code, finding.severity) == ("agent", Severity.BLOCKER)
    assert "its guest agent doesn't answer" in finding.message
    assert reboot.reasons(decide(domain()), suspend=False, agent=agent) == ()
    assert reboot.reasons(decide(domain()), suspend=True, agent=True) == ()


def test_a_guest_that_sleeps_already_needs_no_agent() -> None:
    assert not reboot.blocked(reboot.reasons(decide(domain(status="suspended")), suspend=True))


def test_a_host_device_needs_a_guest_that_sleeps() -> None:
    passed = decide(domain(xml=("</devices>", "<hostdev mode='subsystem' type='pci'/></devices>")))
    assert {f.code for f in reboot.reasons(passed, suspend=False)} == {"hostdev-awake"}
    assert reboot.reasons(passed, suspend=True, agent=True) == ()


def test_the_steps_in_their_order() -> None:
    """Nothing is undone from the old process's end on."""
    names = [step.name for step in reboot.REBOOT]
    assert names.index("save") < names.index("end-old") < names.index("start") < names.index("resume")
    assert {step.name for step in reboot.SAVE if not step.undo} == {"end-old"}


# What is done with an interrupted save or restore.

ALL = list(product(Stage, Purpose, Found))
OLD = (Found.OLD_RUNNING, Found.OLD_RESTING)
IN_NEW = (Found.NEW_WAITING, Found.NEW_LOADED)


@pytest.mark.parametrize(("stage", "purpose", "process"), ALL)
def test_every_combination_has_a_remedy(stage: Stage, purpose: Purpose, process: Found) -> None:
    decided = remedy(stage, purpose, process)
    assert isinstance(decided, Remedy)
    if decided is Remedy.BACK:
        assert process in OLD  # the guest goes on where it is
        assert stage in (Stage.SAVING, Stage.SAVED)
    if decided in (Remedy.RESTORE, Remedy.WAIT):
        assert process in (Found.GONE, *IN_NEW)  # nobody runs it, and nobody did since the file was whole
        assert stage in (Stage.SAVED, Stage.STARTING)
        assert decided is (Remedy.RESTORE if purpose is Purpose.UPGRADE else Remedy.WAIT)
    if decided is Remedy.FORWARD:
        assert process in (Found.NEW_LOADED, Found.NEW_RUNNING)
    if decided is Remedy.LOST:
        assert process is Found.GONE
        assert stage in (Stage.SAVING, Stage.RESUMING)
    if process in (Found.STRANGER, Found.SILENT):
        assert decided is Remedy.UNKNOWN


@pytest.mark.parametrize(("purpose", "process"), list(product(Purpose, Found)))
def test_the_file_is_never_used_after_the_new_process_was_told_to_run(purpose: Purpose, process: Found) -> None:
    assert remedy(Stage.RESUMING, purpose, process) not in (Remedy.RESTORE, Remedy.WAIT, Remedy.BACK)


@pytest.mark.parametrize(("stage", "purpose"), list(product(Stage, Purpose)))
def test_a_guest_that_runs_is_never_given_up(stage: Stage, purpose: Purpose) -> None:
    for process in (Found.OLD_RUNNING, Found.NEW_RUNNING):
        assert remedy(stage, purpose, process) in (Remedy.BACK, Remedy.FORWARD, Remedy.UNKNOWN)


def test_what_was_never_told_to_run_may_be_started_anew() -> None:
    for stage, process in product((Stage.SAVED, Stage.STARTING), (Found.GONE, *IN_NEW)):
        assert remedy(stage, Purpose.UPGRADE, process) is Remedy.RESTORE
        assert remedy(stage, Purpose.SAVE, process) is Remedy.WAIT
