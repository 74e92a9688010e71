"""How a twin is handed over in each mode, and what of it counts as an answer of QEMU's."""

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
from virtcpr.actions.rehearsal import rehearse, trial
from virtcpr.actions.rehearsal.modes import MODES, WAYS_BACK
from virtcpr.actions.rehearsal.rehearse import Case
from virtcpr.actions.rehearsal.trial import Start
from virtcpr.domain.facts import DomainFacts, Emulator
from virtcpr.errors import HostError, QmpError, QmpRefused
from virtcpr.host.processes.proc import Process
from virtcpr.host.qemu import scratch
from virtcpr.model import Mode, Rehearsal, Trial

EMULATOR = facts.domain().emulator
GO = Rehearsal(Trial.GO)


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


def case(domain: DomainFacts) -> Case:
    return Case(domain, lambda *_: None)


def hand_over(before: Twin, after: Twin, mode: Mode = Mode.TRANSFER, new: Emulator = EMULATOR) -> Rehearsal:
    act = MODES[mode](rehearse._twin(case(facts.domain())), scratch.Directory(9), new)
    return asyncio.run(trial._hand_over(act, before, after))  # type: ignore[arg-type]


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
    act = MODES[Mode.REBOOT](rehearse._twin(case(domain)), scratch.Directory(9), EMULATOR)
    assert tuple(act.after()) == (*act.before(), "-incoming", "defer")
    assert "/proc/self/fd/9/ram" in " ".join(act.before())
    assert "memfd" not in " ".join(act.before())


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
    monkeypatch.setattr(trial, "SECONDS", 0.5)
    monkeypatch.setattr(trial, "_executable", lambda _: nullcontext(os.open(hangs, os.O_RDONLY)))
    domain = facts.domain()
    assert domain.process is not None
    ours = Process.of(os.getpid())
    domain = replace(domain, process=replace(domain.process, pid=ours.pid, started=ours.started))
    domain = replace(domain, emulator=replace(domain.emulator, path=str(hangs)))
    result = asyncio.run(
        trial.try_out(
            Start.running(domain), domain.emulator, rehearse._twin(case(domain)), MODES[mode], WAYS_BACK[mode]
        )
    ).there
    assert result.trial is Trial.UNSURE
    assert "0.5 s" in result.words
    assert "scratch directory" not in result.words
    assert list((tmp_path / "run").iterdir()) == []
