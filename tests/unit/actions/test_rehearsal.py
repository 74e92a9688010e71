"""What a rehearsal's result means for a guest, and how long it is kept.  The rehearsal itself is run in the lab."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from tests.unit.support import facts
from virtcpr.actions.rehearsal import cache, rehearse
from virtcpr.actions.rehearsal.rehearse import Case
from virtcpr.actions.rehearsal.trial import Start, Tried
from virtcpr.actions.transfer.move import Move
from virtcpr.domain.facts import DomainFacts
from virtcpr.errors import QmpError
from virtcpr.host.qemu import emulator
from virtcpr.model import Mode, Rehearsal, Request, Result, Severity, Trial

GO, NO_GO = Rehearsal(Trial.GO), Rehearsal(Trial.NO_GO, "VQ 0 vring.num 1024 exceeds allocated max 256")


@pytest.fixture(autouse=True)
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "run/rehearsals.json"
    monkeypatch.setattr(cache, "PATH", path)
    return path


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The guests whose twins were really started."""
    started: list[str] = []

    async def run(start: Start, _emulator: object, _line: object, _there: object, back: object) -> Tried:
        started.append(start.build)
        return Tried(NO_GO, GO if back else None)

    monkeypatch.setattr(rehearse, "try_out", run)
    monkeypatch.setattr(emulator, "firmware", lambda _: "as ever")
    return started


def part(domain: DomainFacts, *queues: tuple[int, int]) -> Case:
    """A guest whose one virtio device has queues of these sizes, and of these by default."""

    def ask(command: str, arguments: Mapping[str, int] | None = None) -> object:
        if command == "x-query-virtio":
            return [{"path": "/machine/peripheral/net0/virtio-backend"}]
        assert command == "x-query-virtio-queue-status"
        assert arguments is not None
        if arguments["queue"] >= len(queues):
            raise QmpError("Invalid virtqueue number")
        now, usual = queues[arguments["queue"]]
        return {"vring-num": now, "vring-num-default": usual}

    return Case(domain, ask)


def never_moved() -> DomainFacts:
    domain = facts.domain()
    assert domain.process is not None
    argv = domain.process.argv
    first = argv.index("-incoming")
    return replace(domain, process=replace(domain.process, argv=argv[:first]))


def test_guests_of_one_shape_have_one_rehearsal(runs: list[str]) -> None:
    alike = [part(replace(facts.domain(), name=name), (1024, 1024)) for name in ("web1", "web2", "web3")]
    rehearse.rehearse(alike)
    assert len(runs) == 1
    assert [one.result for one in alike] == [NO_GO] * 3


def test_it_is_known_the_next_time_and_forgotten_with_another_build(runs: list[str], kept: Path) -> None:
    domain = facts.domain()
    rehearse.rehearse([part(domain, (1024, 1024))])
    rehearse.rehearse([part(domain, (1024, 1024))])
    assert len(runs) == 1
    assert kept.stat().st_mode & 0o777 == 0o600
    rehearse.rehearse([part(replace(domain, emulator=replace(domain.emulator, build="yet another")), (1, 1))])
    assert len(runs) == 2
    kept.write_text("{broken")
    rehearse.rehearse([part(domain, (1024, 1024))])
    assert len(runs) == 3


def test_what_one_mode_showed_says_nothing_of_another(runs: list[str]) -> None:
    domain = facts.domain()
    for mode in (Mode.TRANSFER, Mode.REBOOT, Mode.REBOOT, Mode.TRANSFER):
        rehearse.rehearse([part(domain, (1024, 1024))], mode)
    assert len(runs) == 2


def test_what_tells_nothing_is_not_kept(kept: Path) -> None:
    cache.note("key", Rehearsal(Trial.UNSURE, "it took more than 30 s"))
    assert cache.read() == {}
    cache.note("key", GO)
    assert cache.read() == {"key": GO}


def test_a_guest_that_was_started_in_this_build_is_like_its_twin(runs: list[str]) -> None:
    """Its driver may have made the queues smaller: when it boots again they are what they were."""
    one = part(never_moved(), (256, 1024))
    rehearse.rehearse([one])
    assert one.result == NO_GO


def test_a_guest_that_was_moved_here_may_be_unlike_it(runs: list[str]) -> None:
    alike, unlike = part(facts.domain(), (1024, 1024), (64, 64)), part(facts.domain(), (1024, 1024), (256, 1024))
    rehearse.rehearse([alike, unlike])
    assert alike.result == NO_GO
    assert unlike.result.trial is Trial.UNSURE
    assert NO_GO.words in unlike.result.words
    assert "started in another build and isn't like it" in unlike.result.words


def test_a_guest_that_cannot_be_asked_is_unsure(runs: list[str]) -> None:
    def ask(*_: object) -> object:
        raise QmpError("QEMU refused x-query-virtio")

    one = Case(facts.domain(), ask)
    rehearse.rehearse([one])
    assert one.result.trial is Trial.UNSURE
    assert "QEMU refused x-query-virtio" in one.result.words


def test_a_guest_that_new_qemu_refused_is_not_tried_again(runs: list[str]) -> None:
    """Its twin tells nothing, as the guest isn't like it; but the guest itself was tried."""
    domain = facts.domain()
    rehearse.remember_refusal(domain, Mode.TRANSFER, "VQ 0 vring.num 1024")
    refused = part(domain)
    rehearse.rehearse([refused])
    assert (refused.result.trial, refused.result.words, runs) == (Trial.NO_GO, "VQ 0 vring.num 1024", [])
    move = Move.of(domain, Request())
    move.rehearsed(refused.result)
    (finding,) = move.findings
    assert (move.result, finding.code) == (Result.BLOCKED, "refused-before")
    assert finding.message.startswith(f"QEMU {domain.emulator.version} refused this guest at 20")
    assert finding.message.endswith(": VQ 0 vring.num 1024")
    assert finding.remedy.startswith("shut it down and start it")

    assert domain.process is not None
    other = (
        replace(domain, emulator=replace(domain.emulator, build="yet another")),
        replace(domain, process=replace(domain.process, started="9999")),
    )
    for case in map(part, other):
        rehearse.rehearse([case])
        assert case.result.refused_at == ""


def test_a_guest_without_a_twin_is_unsure(runs: list[str]) -> None:
    domain = facts.domain()
    assert domain.process is not None
    odd = replace(domain, process=replace(domain.process, argv=(*domain.process.argv, "-drive", "file=/x")))
    one = part(odd)
    rehearse.rehearse([one])
    assert one.result == Rehearsal(Trial.UNSURE, "its command line has -drive")
    assert runs == []


def test_a_command_line_that_cannot_be_understood_is_unsure(runs: list[str]) -> None:
    """It doesn't block mode reboot."""
    domain = facts.domain()
    assert domain.process is not None
    one = part(replace(domain, process=replace(domain.process, argv=("qemu", "stray"))))
    rehearse.rehearse([one], Mode.REBOOT)
    assert one.result.trial is Trial.UNSURE
    assert "belongs to no option: stray" in one.result.words
    assert runs == []


def test_no_go_blocks_and_unsure_warns() -> None:
    refused, doubtful, sure = (Move.of(facts.domain(), Request()) for _ in range(3))
    refused.rehearsed(NO_GO)
    doubtful.rehearsed(Rehearsal(Trial.UNSURE, "it took more than 30 s"))
    sure.rehearsed(GO)
    assert (refused.result, doubtful.result, sure.result) == (Result.BLOCKED, None, None)
    assert [f.code for f in sure.findings] == []
    (no,), (maybe,) = refused.findings, doubtful.findings
    assert (no.code, no.severity) == ("rehearsal", Severity.BLOCKER)
    assert no.message == (
        f"a rehearsal showed that QEMU {facts.domain().emulator.version} can't take over this machine: "
        "VQ 0 vring.num 1024 exceeds allocated max 256"
    )
    assert "the same upgrade or undo with --no-rehearse tries anyway" in no.remedy
    assert "mode reboot leaves the guest down, its state on disk" in no.remedy
    assert no.modes == maybe.modes == (Mode.TRANSFER, Mode.LIVE, Mode.REBOOT)
    assert (maybe.code, maybe.severity) == ("rehearsal-unsure", Severity.WARNING)
    assert "could not be rehearsed: it took more than 30 s" in maybe.message
    assert "in mode reboot it would be down, its state on disk" in maybe.remedy


def test_a_doubt_is_not_told_after_a_success() -> None:
    moved, failed = (Move.of(facts.domain(), Request()) for _ in range(2))
    for move, result in ((moved, Result.UPGRADED), (failed, Result.ROLLED_BACK)):
        move.rehearsed(Rehearsal(Trial.UNSURE, "it took more than 30 s"))
        move.end(result)
    assert [f.code for f in moved.findings] == []
    assert [f.code for f in failed.findings] == ["rehearsal-unsure"]


def test_the_firmware_of_an_emulator_is_looked_at_once(runs: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[str] = []

    def firmware(path: str) -> str:
        looked.append(path)
        return "as ever"

    monkeypatch.setattr(emulator, "firmware", firmware)
    rehearse.rehearse([part(facts.domain(), (1, 1)) for _ in range(60)])
    assert len(looked) == len(runs) == 1
