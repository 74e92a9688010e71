"""``certify`` of domains that don't run; its rehearsals are run in the lab."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.unit.support import facts
from virtcpr.actions import certify
from virtcpr.actions.rehearsal.defined import Defined
from virtcpr.actions.rehearsal.rehearse import Case
from virtcpr.domain.facts import DomainFacts, Emulator
from virtcpr.host.processes.proc import User
from virtcpr.model import Certified, CertifiedDomain, Mode, Rehearsal, Trial

OFF = replace(facts.domain(), id=None, process=None, qemu=None, state="shut off")
INSTALLED = replace(OFF.emulator, version="10.0.2")
CANDIDATE = replace(OFF.emulator, version="11.1.3", build="new")
WOULD = Defined(INSTALLED, facts.line(), (), User(0, 0))


class Handle:
    monitor = None


@pytest.fixture(autouse=True)
def rehearsed(monkeypatch: pytest.MonkeyPatch) -> list[Mode]:
    """The mode of each case that was tried; all go there, and don't come back."""
    modes: list[Mode] = []

    def both_ways(cases: list[Case], mode: Mode) -> None:
        for case in cases:
            modes.append(mode)
            case.result, case.back = Rehearsal(Trial.GO), Rehearsal(Trial.NO_GO, "vmstate")

    monkeypatch.setattr(certify, "rehearse_both_ways", both_ways)
    return modes


def certified(domain: DomainFacts, off: Defined | str, found: Emulator, asked: Mode | None = None) -> CertifiedDomain:
    handle: Any = Handle()
    (one,) = certify._certified([(handle, domain)], {domain.uuid: off}, lambda _: found, asked)
    return one


@pytest.mark.parametrize(
    ("asked", "prepared", "mode"),
    [
        (None, True, Mode.TRANSFER),
        (None, False, Mode.LIVE),
        (Mode.TRANSFER, False, Mode.LIVE),
        (Mode.REBOOT, True, Mode.REBOOT),
    ],
)
def test_it_is_tried_from_what_is_installed(
    rehearsed: list[Mode], asked: Mode | None, prepared: bool, mode: Mode
) -> None:
    domain = OFF if prepared else replace(OFF, persistent_xml="<domain/>")
    one = certified(domain, WOULD, CANDIDATE, asked)
    assert (one.result, one.mode, one.defined, rehearsed) == (Certified.GO, mode, True, [mode])
    assert (one.running, one.candidate) == ("10.0.2", "11.1.3")
    assert one.back == Rehearsal(Trial.NO_GO, "vmstate")


def test_what_libvirt_could_not_start(rehearsed: list[Mode]) -> None:
    one = certified(OFF, "unsupported machine type", CANDIDATE)
    assert (one.result, one.there, rehearsed) == (
        Certified.UNSURE,
        Rehearsal(Trial.UNSURE, "unsupported machine type"),
        [],
    )


def test_xml_that_cannot_be_parsed(rehearsed: list[Mode]) -> None:
    """It stops no other domain."""
    one = certified(replace(OFF, xml="<domain", persistent_xml="<domain"), "isn't XML", CANDIDATE)
    assert (one.result, one.mode, rehearsed) == (Certified.UNSURE, None, [])


def test_an_emulator_that_the_packages_do_not_have(rehearsed: list[Mode]) -> None:
    """Else it would be tried with what is installed, and go."""
    one = certified(OFF, WOULD, Emulator("/opt/qemu", problem="isn't in the packages"))
    assert (one.result, rehearsed) == (Certified.UNSURE, [])
    assert one.there is not None
    assert one.there.words == "/opt/qemu isn't in the packages"
