"""What a rehearsal's result means for a guest, and how long it is kept.  The rehearsal itself is run in the lab."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.unit.support import facts
from virtcpr.actions.rehearsal import cache, rehearse
from virtcpr.actions.rehearsal.modes import MODES
from virtcpr.actions.rehearsal.rehearse import Case
from virtcpr.actions.transfer.move import Move
from virtcpr.domain.facts import DomainFacts, Emulator
from virtcpr.errors import HostError, QmpError, QmpRefused
from virtcpr.host.processes.proc import Process, User
from virtcpr.host.qemu import emulator, scratch
from virtcpr.model import Mode, Rehearsal, Result, Severity, Trial

EMULATOR = facts.domain().emulator
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

    async def run(domain: DomainFacts, _line: object, _mode: Mode) -> Rehearsal:
        started.append(domain.name)
        return NO_GO

    monkeypatch.setattr(rehearse, "_rehearse", run)
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
    move = Move.of(domain)
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
    refused, doubtful, sure = (Move.of(facts.domain()) for _ in range(3))
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
    assert "'virtcpr upgrade --no-rehearse d1' tries anyway" in no.remedy
    assert "mode reboot leaves the guest down, its state on disk" in no.remedy
    assert no.modes == maybe.modes == (Mode.TRANSFER, Mode.REBOOT)
    assert (maybe.code, maybe.severity) == ("rehearsal-unsure", Severity.WARNING)
    assert "could not be rehearsed: it took more than 30 s" in maybe.message
    assert "in mode reboot it would be down, its state on disk" in maybe.remedy


def test_a_doubt_is_not_told_after_a_success() -> None:
    moved, failed = (Move.of(facts.domain()) for _ in range(2))
    for move, result in ((moved, Result.UPGRADED), (failed, Result.ROLLED_BACK)):
        move.rehearsed(Rehearsal(Trial.UNSURE, "it took more than 30 s"))
        move.end(result)
    assert [f.code for f in moved.findings] == []
    assert [f.code for f in failed.findings] == ["rehearsal-unsure"]


class Twin:
    """A scratch QEMU that does what a test wants of it; ``ends`` is how its migration does, None: it is lost."""

    def __init__(
        self,
        *,
        comes_up: bool = True,
        gave_up: bool = False,
        refuses: str = "",
        words: str = "",
        ends: str | None = None,
        answers: Mapping[str, object] | None = None,
    ) -> None:
        self.comes_up, self.given_up, self.refuses, self.ends = comes_up, gave_up, refuses, ends
        self.words = (words,) if words else ()
        self.answers = answers or {}
        self.asked: list[tuple[str, object]] = []

    async def monitor(self, timeout: float) -> Twin:
        if not self.comes_up:
            raise QmpError("QEMU's monitor can't be reached")
        return self

    async def execute(self, command: str, arguments: object = None) -> object:
        self.asked.append((command, arguments))
        if self.refuses and self.refuses in f"{command} {arguments}":
            raise QmpRefused(f"QEMU refused {command}: {self.refuses}")
        return self.answers.get(command, {})

    async def migration_end(self, timeout: float) -> str:
        if self.ends is None:
            raise QmpError("the monitor was lost during the migration")
        return self.ends

    async def listens(self, path: str, timeout: float) -> bool:
        return self.comes_up

    async def gave_up(self) -> bool:
        return self.given_up

    async def end(self) -> None:
        pass


def hand_over(before: Twin, after: Twin, mode: Mode = Mode.TRANSFER, new: Emulator = EMULATOR) -> Rehearsal:
    act = MODES[mode](rehearse._twin(facts.domain()), scratch.Directory(9), new)
    return asyncio.run(rehearse._hand_over(act, before, after))  # type: ignore[arg-type]


BOTH = pytest.mark.parametrize("mode", [Mode.TRANSFER, Mode.REBOOT], ids=lambda mode: mode.value)
COMPLETED = "completed"


def resting(status: str = "prelaunch", **how: Any) -> Twin:
    """New QEMU that took it, and stands so."""
    return Twin(ends=COMPLETED, answers={"query-status": {"status": status}}, **how)


@BOTH
def test_what_qemu_says_is_no_go(mode: Mode) -> None:
    after = Twin(refuses="migrate-incoming")
    assert hand_over(Twin(ends=COMPLETED), after, mode).trial is Trial.NO_GO
    refused = Rehearsal(Trial.NO_GO, "QEMU refused migrate: migrate {")
    assert hand_over(Twin(refuses="migrate {"), Twin(), mode) == refused
    ended = Twin(comes_up=False, gave_up=True, words="unsupported machine type")
    assert hand_over(Twin(ends=COMPLETED), ended, mode) == Rehearsal(Trial.NO_GO, "unsupported machine type")
    ended = Twin(gave_up=True, words="can't load the state")
    assert hand_over(Twin(ends=COMPLETED), ended, mode) == Rehearsal(Trial.NO_GO, "can't load the state")
    failed = Twin(ends="failed", answers={"query-migrate": {"error-desc": "load of migration failed"}})
    assert hand_over(Twin(ends=COMPLETED), failed, mode) == Rehearsal(Trial.NO_GO, "load of migration failed")
    blocked = Twin(answers={"query-migrate": {"blocked-reasons": ["non-migratable device: nvme"]}})
    said = "its twin: QEMU refuses: non-migratable device: nvme"
    assert hand_over(blocked, Twin(), mode) == Rehearsal(Trial.NO_GO, said)


@BOTH
@pytest.mark.parametrize("after", [Twin(comes_up=False), Twin()], ids=["before it listens", "in the migration"])
def test_a_twin_that_was_killed_tells_nothing(after: Twin, mode: Mode) -> None:
    """By the kernel, for want of memory, or by somebody."""
    with pytest.raises(HostError):
        hand_over(Twin(ends=COMPLETED), after, mode)


@BOTH
def test_what_new_qemu_takes_is_go(mode: Mode) -> None:
    assert hand_over(Twin(ends=COMPLETED), resting(), mode) == GO


def test_what_isn_t_at_rest_after_a_load_is_no_go() -> None:
    assert hand_over(Twin(ends=COMPLETED), resting("paused"), Mode.REBOOT) == GO
    said = "new QEMU has all of its state, but is internal-error"
    after = resting("internal-error")
    assert hand_over(Twin(ends=COMPLETED), after, Mode.REBOOT) == Rehearsal(Trial.NO_GO, said)


def test_a_state_that_cannot_be_saved_says_nothing_of_new_qemu() -> None:
    full = Twin(ends="failed", answers={"query-migrate": {"error-desc": "No space left on device"}})
    with pytest.raises(HostError, match="its state can't be saved: No space left on device"):
        hand_over(full, resting(), Mode.REBOOT)


def test_a_file_is_saved_and_loaded_as_both_agree() -> None:
    """Without a way back; memory that never was touched is left out on both sides; not at the speed of a network."""
    before, after = Twin(ends=COMPLETED), resting()
    hand_over(before, after, Mode.REBOOT)
    off = {"capability": "return-path", "state": True}
    for one in (before, after):
        commands = dict(one.asked)
        assert commands["migrate-set-parameters"]["mode"] == "cpr-reboot"  # type: ignore[index]
        listed = commands["migrate-set-capabilities"]["capabilities"]  # type: ignore[index]
        assert {"capability": "x-ignore-shared", "state": True} in listed
        assert off not in listed
    saved, loaded = dict(before.asked), dict(after.asked)
    assert saved["migrate-set-parameters"]["max-bandwidth"] > 1 << 40  # type: ignore[index]
    assert saved["migrate"] == {"uri": "file:/proc/self/fd/9/state"}
    assert loaded["migrate-incoming"] == {"uri": "file:/proc/self/fd/9/state", "exit-on-error": False}


def test_a_qemu_that_cannot_outlive_a_failed_load_is_asked_without() -> None:
    """Before 9.1: it ends then, and its words are taken all the same."""
    after = resting(refuses="exit-on-error")
    old = replace(EMULATOR, exit_on_error=False)
    assert hand_over(Twin(ends=COMPLETED), after, Mode.REBOOT, old) == GO
    assert dict(after.asked)["migrate-incoming"] == {"uri": "file:/proc/self/fd/9/state"}


def test_the_twin_is_no_go_where_the_guest_could_not_be_loaded() -> None:
    """The twin gets the very command that the guest's new QEMU will get: nothing is tried a second way."""
    after = resting(refuses="exit-on-error")
    assert hand_over(Twin(ends=COMPLETED), after, Mode.REBOOT).trial is Trial.NO_GO


def test_new_qemu_of_mode_reboot_waits_with_the_memory_of_old() -> None:
    domain = facts.domain()
    act = MODES[Mode.REBOOT](rehearse._twin(domain), scratch.Directory(9), EMULATOR)
    assert tuple(act.after()) == (*act.before(), "-incoming", "defer")
    assert "/proc/self/fd/9/ram" in " ".join(act.before())
    assert "memfd" not in " ".join(act.before())


def test_the_firmware_of_an_emulator_is_looked_at_once(runs: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    looked: list[str] = []

    def firmware(path: str) -> str:
        looked.append(path)
        return "as ever"

    monkeypatch.setattr(emulator, "firmware", firmware)
    rehearse.rehearse([part(facts.domain(), (1, 1)) for _ in range(60)])
    assert len(looked) == len(runs) == 1


@BOTH
def test_what_takes_too_long_is_said_to_take_too_long(
    mode: Mode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that isn't QEMU and hangs, in both roles: it is ended, and nothing of it is left."""
    hangs = tmp_path / "hangs"
    hangs.write_text("#!/bin/sh\nexec sleep 600\n")
    hangs.chmod(0o755)
    tmp_path.chmod(0o755)
    monkeypatch.setattr(scratch, "RUN_DIR", tmp_path / "run")
    monkeypatch.setattr(rehearse, "SECONDS", 0.5)
    monkeypatch.setattr(rehearse, "_executable", lambda _: nullcontext(os.open(hangs, os.O_RDONLY)))
    domain = facts.domain()
    assert domain.process is not None
    ours = Process.of(os.getpid())
    domain = replace(domain, process=replace(domain.process, pid=ours.pid, started=ours.started))
    domain = replace(domain, emulator=replace(domain.emulator, path=str(hangs)))
    result = asyncio.run(rehearse._rehearse(domain, rehearse._twin(domain), mode))
    assert result.trial is Trial.UNSURE
    assert "0.5 s" in result.words
    assert "scratch directory" not in result.words
    assert list((tmp_path / "run").iterdir()) == []


def test_a_directory_that_cannot_be_made_is_said_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "run").write_text("in the way")
    monkeypatch.setattr(scratch, "RUN_DIR", tmp_path / "run")
    with (
        pytest.raises(HostError, match=r"no scratch directory can be made in .*: File exists"),
        scratch.directory(User(os.getuid(), os.getgid())),
    ):
        pass


def test_an_error_in_it_is_not_the_directorys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A time-out is an OSError, too."""
    monkeypatch.setattr(scratch, "RUN_DIR", tmp_path)
    with pytest.raises(TimeoutError), scratch.directory(User(os.getuid(), os.getgid())):
        raise TimeoutError
    assert list(tmp_path.iterdir()) == []
