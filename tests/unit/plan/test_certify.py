"""What a rehearsal against a candidate says of a domain."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.unit.support import facts
from virtcpr.domain.facts import Emulator
from virtcpr.model import Certified, ExitCode, Mode, Rehearsal, Trial
from virtcpr.plan.certify import ELSEWHERE, exit_code, judge, mode_for
from virtcpr.plan.decision import decide

GO, NO_GO, UNSURE = (Rehearsal(trial) for trial in (Trial.GO, Trial.NO_GO, Trial.UNSURE))
READY = decide(facts.domain())
UNPREPARED = decide(replace(facts.domain(), qemu=replace(facts.qemu(), aux_ram_share=False)))
SHUT_OFF = decide(replace(facts.domain(), process=None, qemu=None, id=None))


def test_a_domain_is_tried_in_the_first_mode_that_it_is_ready_for() -> None:
    assert mode_for(READY, None) is Mode.TRANSFER
    assert mode_for(UNPREPARED, None) is Mode.LIVE
    assert mode_for(UNPREPARED, Mode.REBOOT) is Mode.REBOOT
    assert mode_for(UNPREPARED, Mode.TRANSFER) is None
    assert mode_for(SHUT_OFF, None) is None


def test_a_domain_that_runs_the_candidate_is_not_tried() -> None:
    domain = facts.domain()
    assert domain.process is not None
    current = decide(replace(domain, emulator=replace(domain.emulator, build=domain.process.build)))
    assert mode_for(current, None) is None
    line = judge(current, None, None, None, UNSURE, None)
    assert (line.result, line.there, line.findings) == (Certified.CURRENT, None, ())


def test_what_stands_in_the_way_is_no_word_of_the_candidates() -> None:
    line = judge(UNPREPARED, Mode.TRANSFER, None, None, UNSURE, None)
    assert (line.result, line.there, line.back) == (Certified.BLOCKED, None, None)
    assert line.findings
    assert all(Mode.TRANSFER in finding.modes for finding in line.findings)


def test_a_domain_whose_emulator_the_packages_do_not_have_keeps_nobody_from_installing_them() -> None:
    """It runs in one that was built by hand, say: nothing changes for it."""
    domain = facts.domain()
    elsewhere = decide(replace(domain, emulator=Emulator("/opt/qemu", problem=ELSEWHERE)))
    line = judge(elsewhere, None, None, None, UNSURE, None)
    assert (line.result, exit_code([line])) == (Certified.UNSURE, ExitCode.SOME)
    assert "/opt/qemu isn't in the packages" in line.findings[0].message


def test_both_ways() -> None:
    line = judge(READY, None, Mode.TRANSFER, 1, GO, NO_GO)
    assert (line.result, line.there, line.back, line.shape) == (Certified.GO, GO, NO_GO, 1)
    assert line.candidate == facts.domain().emulator.version


@pytest.mark.parametrize(
    ("trials", "code"),
    [
        ((), ExitCode.DONE),
        ((GO, GO), ExitCode.DONE),
        ((GO, UNSURE), ExitCode.SOME),
        ((UNSURE, NO_GO), ExitCode.BLOCKED),
    ],
)
def test_the_exit_code(trials: tuple[Rehearsal, ...], code: ExitCode) -> None:
    assert exit_code([judge(READY, None, Mode.TRANSFER, 1, there, NO_GO) for there in trials]) is code
    blocked = judge(SHUT_OFF, None, None, None, UNSURE, None)
    assert exit_code([blocked]) is ExitCode.BLOCKED
